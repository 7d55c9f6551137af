package onnx

import "math"

const (
	// int8Range is the largest quantized weight. Seven bits, not eight: processors without VNNI instructions add two
	// products of bytes into 16 bits, which eight-bit weights overflow (products wrong by 13 % were seen).
	int8Range = 63
	// minInt8Size is the least width of a weight that is worth quantizing.
	minInt8Size = 64
	// rowRange is the largest quantized input; zero is stored as rowZero.
	rowRange = 127
	rowZero  = 128
	// minRowMax keeps rows of zeros from a division by zero.
	minRowMax = 1e-30
)

// QuantizeWeights turns every linear layer with constant weights, Gemm with TransB, into an integer product: weights are
// int8 with one scale per output, made here; inputs are quantized to uint8 when the graph runs, with one scale per row:
//
//	r = max|x| / 127 of each row,  y = ((x/r as integers) · W as integers) · r · scale of each output + bias.
//
// Sums are exact in 32 bits and a row does not know of others, so that a text's values are the same in every batch. One
// scale for a whole batch would be an eighth faster and twice as far from fp32. It gives the number of layers changed.
func (g *Graph) QuantizeWeights() int {
	changed := 0
	nodes := g.Nodes
	g.Nodes = nil
	for _, n := range nodes {
		if !n.quantizable() {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		g.quantize(n)
		changed++
	}
	g.Consts = g.usedConsts() // without the fp32 weights
	return changed
}

// quantizable says whether a node is a linear layer with a large constant weight.
func (n *Node) quantizable() bool {
	if n.Op != "Gemm" || n.Int("transA", 0) != 0 || n.Int("transB", 0) != 1 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
		return false
	}
	w := n.Inputs[1].Const
	return w != nil && w.File == nil && w.DType == Float32 && min(w.Dims[0], w.Dims[1]) >= minInt8Size
}

// quantize appends a layer's integer product, whose result takes the place of the layer's.
func (g *Graph) quantize(n *Node) {
	end := g.Scope(n.Name)
	defer end()
	x, w := n.Inputs[0], n.Inputs[1]
	out, in := w.Const.Dims[0], w.Const.Dims[1]
	q, scales := quantizeRows(w.Const.Float32s(), out, in)
	weight := g.Weight(w.Name+".int8", &Tensor{DType: Int8, Dims: []int64{in, out}, Raw: q})
	scale := g.Weight(w.Name+".scale", Floats(scales, out))
	zero := g.Const(&Tensor{DType: Uint8, Raw: []byte{rowZero}})

	largest := g.op1("Max", []*Value{g.ReduceMax(x, true, 1), g.Neg(g.ReduceMin(x, true, 1)), g.Scalar(x, minRowMax)}, nil)
	r := g.Mul(largest, g.Scalar(x, 1.0/rowRange))
	one := g.Scalar(x, 1)
	whole := g.op1("QuantizeLinear", []*Value{g.Div(x, r), one, zero}, nil)
	y := g.Op(Microsoft, "MatMulIntegerToFloat", []*Value{whole, weight, one, scale, zero}, nil, 1)[0]
	y = g.Mul(y, r)
	if len(n.Inputs) > 2 && n.Inputs[2] != nil {
		y = g.Add(y, n.Inputs[2])
	}
	last := y.Producer
	last.Outputs = n.Outputs
	n.Outputs[0].Producer = last
}

// quantizeRows gives the transpose of w [out, in] as int8, and each output's scale.
func quantizeRows(w []float32, out, in int64) (q []byte, scales []float32) {
	q, scales = make([]byte, out*in), make([]float32, out)
	for o := range out {
		row := w[o*in : (o+1)*in]
		largest := 0.0
		for _, x := range row {
			largest = max(largest, math.Abs(float64(x)))
		}
		if largest == 0 {
			largest = 1 // of zeros, any scale will do
		}
		scale := largest / int8Range
		scales[o] = float32(scale)
		for i, x := range row {
			q[int64(i)*out+o] = byte(int8(math.RoundToEven(float64(x) / scale)))
		}
	}
	return q, scales
}
