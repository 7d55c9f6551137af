package onnx

import "math"

const (
	// maxInt8Weight is the largest quantized weight. It has seven bits, not eight: processors without VNNI instructions add
	// two products of bytes in 16 bits, which eight-bit weights overflow (errors of 13 % were measured).
	maxInt8Weight = 63
	// minInt8Width is the smallest input and output width of a layer that is quantized. Smaller layers gain nothing.
	minInt8Width = 64
	// maxUint8Input is the largest absolute value of a quantized input. Inputs are stored as uint8 plus uint8ZeroPoint.
	maxUint8Input  = 127
	uint8ZeroPoint = 128
	// minRowMax is a lower bound of a row's largest absolute value. It prevents a division by zero in rows of zeros.
	minRowMax = 1e-30
)

// QuantizeWeights replaces every large linear layer with constant weights (Gemm with TransB) by an integer matrix product, and
// returns the number of layers replaced. Weights are quantized here to int8, with one scale for each output column. Inputs
// are quantized to uint8 when the graph runs, with one scale for each row:
//
//	Wq = round(W / scale),  r = max|x| / 127 of each row,  y = (round(x / r) · Wqᵀ) · r · scale + bias
//
// The integer sums are exact in 32 bits, and a row's scale does not depend on other rows. Therefore a text has the same
// values in every batch. One scale for the whole batch would be an eighth faster, but its error from fp32 twice as large.
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
	g.Initializers = g.usedInitializers() // drops the fp32 weights
	return changed
}

// quantizable reports whether a node is a linear layer with a large constant weight in memory.
func (n *Node) quantizable() bool {
	if n.Op != "Gemm" || n.Int("transA", 0) != 0 || n.Int("transB", 0) != 1 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
		return false
	}
	w := n.Inputs[1].Const
	return w != nil && w.File == nil && w.DType == Float32 && min(w.Dims[0], w.Dims[1]) >= minInt8Width
}

// quantize appends the integer matrix product of a layer. Its result replaces the layer's output.
func (g *Graph) quantize(n *Node) {
	end := g.Scope(n.Name)
	defer end()
	x, w := n.Inputs[0], n.Inputs[1]
	out, in := w.Const.Dims[0], w.Const.Dims[1]
	q, scales := quantizeRows(w.Const.Float32s(), out, in)
	weight := g.Weight(w.Name+".int8", &Tensor{DType: Int8, Dims: []int64{in, out}, Raw: q})
	scale := g.Weight(w.Name+".scale", Floats(scales, out))
	zeroPoint := g.Const(&Tensor{DType: Uint8, Raw: []byte{uint8ZeroPoint}})

	rowMax := g.op1("Max", []*Value{g.ReduceMax(x, true, 1), g.Neg(g.ReduceMin(x, true, 1)), g.Scalar(x, minRowMax)}, nil)
	r := g.Mul(rowMax, g.Scalar(x, 1.0/maxUint8Input))
	one := g.Scalar(x, 1)
	quantized := g.op1("QuantizeLinear", []*Value{g.Div(x, r), one, zeroPoint}, nil)
	g.Kernel(Kernel{Op: "QuantizeRows", Inputs: []*Value{x}, Outputs: []*Value{quantized, r}})
	y := g.Op(Microsoft, "MatMulIntegerToFloat", []*Value{quantized, weight, one, scale, zeroPoint}, nil, 1)[0]
	y = g.Mul(y, r)
	if len(n.Inputs) > 2 && n.Inputs[2] != nil {
		y = g.Add(y, n.Inputs[2])
	}
	last := y.Producer
	last.Outputs = n.Outputs
	n.Outputs[0].Producer = last
}

// quantizeRows quantizes a weight w, [out, in]. It returns the transpose [in, out] as int8, and the scale of each output.
func quantizeRows(w []float32, out, in int64) (q []byte, scales []float32) {
	q, scales = make([]byte, out*in), make([]float32, out)
	for o := range out {
		row := w[o*in : (o+1)*in]
		rowMax := 0.0
		for _, x := range row {
			rowMax = max(rowMax, math.Abs(float64(x)))
		}
		if rowMax == 0 {
			rowMax = 1 // any scale is right for a row of zeros
		}
		scale := rowMax / maxInt8Weight
		scales[o] = float32(scale)
		for i, x := range row {
			q[int64(i)*out+o] = byte(int8(math.RoundToEven(float64(x) / scale)))
		}
	}
	return q, scales
}
