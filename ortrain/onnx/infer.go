package onnx

import (
	"fmt"
	"slices"
)

// infer sets the types and shapes of a node's outputs, given those of its inputs.
func infer(n *Node) error {
	f, ok := inference[n.Op]
	if !ok {
		return fmt.Errorf("no shape inference for operator %s", n.Op)
	}
	if want := max(1, minInputs[n.Op]); len(n.Inputs) < want || len(n.Outputs) == 0 {
		return fmt.Errorf("%s with %d inputs and %d outputs: want at least %d and 1", n.Op, len(n.Inputs), len(n.Outputs), want)
	}
	for i, v := range n.Inputs {
		if v == nil && !optionalInput(n.Op, i) {
			return fmt.Errorf("%s: input %d is missing", n.Op, i)
		}
	}
	return f(n)
}

// optionalInput reports whether input i of an operator may be missing.
func optionalInput(op string, i int) bool {
	return op == "Clip" && i > 0 || op == "Gemm" && i == 2 || op == "PackedMultiHeadAttention" && i == 3
}

// minInputs has the number of inputs that an operator must have, by the operator's name. Others must have one.
var minInputs = map[string]int{
	"Add": 2, "Sub": 2, "Mul": 2, "Div": 2, "Pow": 2, "Mod": 2, "Equal": 2, "Greater": 2, "GreaterOrEqual": 2, "Less": 2,
	"LessOrEqual": 2, "And": 2, "Where": 3, "MatMul": 2, "FusedMatMul": 2, "Gemm": 2, "LayerNormalization": 2, "Gather": 2,
	"ScatterElements": 3, "ScatterND": 3, "Reshape": 2, "Unsqueeze": 2, "Expand": 2, "Split": 2, "Slice": 4, "Pad": 2, "Range": 3, "TopK": 2,
	"CumSum": 2, "QuantizeLinear": 3, "MatMulIntegerToFloat": 4,
}

// inference has the function that infers an operator's output types and shapes, by the operator's name.
var inference map[string]func(*Node) error

func init() {
	inference = map[string]func(*Node) error{
		"MatMul": inferMatMul, "FusedMatMul": inferMatMul, "Gemm": inferGemm,
		"LayerNormalization": inferLayerNormalization, "Where": inferWhere, "Cast": inferCast,
		"Gather": inferGather, "ScatterElements": inferSame, "ScatterND": inferSame,
		"Shape": inferShapeOp, "Reshape": inferReshape, "Transpose": inferTranspose,
		"Squeeze": inferSqueeze, "Unsqueeze": inferUnsqueeze, "Expand": inferExpand, "Concat": inferConcat,
		"Split": inferSplit, "Slice": inferSlice, "Pad": inferPad, "ConstantOfShape": inferConstantOfShape,
		"Range": inferRange, "Size": inferSize, "TopK": inferTopK,
		"Max": inferSame, "QuantizeLinear": inferQuantize, "MatMulIntegerToFloat": inferIntegerMatMul,
	}
	for _, op := range []string{
		"Neg", "Exp", "Log", "Sqrt", "Abs", "Sign", "Reciprocal", "Erf", "Cos", "Sin", "Tanh", "Sigmoid", "HardSigmoid", "Relu", "Gelu",
		"Identity", "PackedMultiHeadAttention", "Clip", "Softmax", "LogSoftmax", "CumSum",
	} {
		inference[op] = inferSame
	}
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Pow", "Mod"} {
		inference[op] = inferBinary
	}
	for _, op := range []string{"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And"} {
		inference[op] = inferCompare
	}
	for _, op := range []string{
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceLogSumExp",
	} {
		inference[op] = inferReduce
	}
}

// inferSame gives the output the type and shape of the first input.
func inferSame(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	out.DType, out.Shape, out.contents = x.DType, x.Shape, x.contents
	if n.Op != "Identity" {
		out.contents = nil
	}
	return nil
}

// Broadcast returns the shape that a and b broadcast to by NumPy's rule. A named dimension is never taken to be 1: it
// broadcasts only with itself and with a fixed 1.
func Broadcast(a, b Shape) (Shape, error) {
	rank := max(len(a), len(b))
	out := make(Shape, rank)
	for i := range out {
		da, db := FixedDim(1), FixedDim(1)
		if j := i - (rank - len(a)); j >= 0 {
			da = a[j]
		}
		if j := i - (rank - len(b)); j >= 0 {
			db = b[j]
		}
		switch {
		case da == db || db == FixedDim(1):
			out[i] = da
		case da == FixedDim(1):
			out[i] = db
		default:
			return nil, fmt.Errorf("shapes %v and %v do not broadcast", a, b)
		}
	}
	return out, nil
}

func inferBinary(n *Node) error {
	a, b, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if a.DType != b.DType {
		return fmt.Errorf("%s of %v and %v: the types differ", n.Op, a.DType, b.DType)
	}
	shape, err := Broadcast(a.Shape, b.Shape)
	if err != nil {
		return err
	}
	out.DType, out.Shape = a.DType, shape
	if n.Op == "Mul" && len(a.contents) == 1 && len(b.contents) == 1 {
		out.contents = []Dim{mulDims(a.contents[0], b.contents[0])}
	}
	return nil
}

func inferCompare(n *Node) error {
	if err := inferBinary(n); err != nil {
		return err
	}
	n.Outputs[0].DType = Bool
	return nil
}

func inferWhere(n *Node) error {
	c, a, b, out := n.Inputs[0], n.Inputs[1], n.Inputs[2], n.Outputs[0]
	if c.DType != Bool || a.DType != b.DType {
		return fmt.Errorf("Where of %v, %v and %v: want bool and two values of one type", c.DType, a.DType, b.DType)
	}
	shape, err := Broadcast(a.Shape, b.Shape)
	if err == nil {
		shape, err = Broadcast(c.Shape, shape)
	}
	out.DType, out.Shape = a.DType, shape
	return err
}

func inferCast(n *Node) error {
	out := n.Outputs[0]
	out.DType, out.Shape = DType(n.Int("to", 0)), n.Inputs[0].Shape
	return nil
}

func inferQuantize(n *Node) error {
	out := n.Outputs[0]
	out.DType, out.Shape = n.Inputs[2].DType, n.Inputs[0].Shape
	return nil
}

func inferIntegerMatMul(n *Node) error {
	a, b, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if a.Rank() != 2 || b.Rank() != 2 || a.Shape[1] != b.Shape[0] {
		return fmt.Errorf("%s of %v and %v: want matrices whose inner sizes agree", n.Op, a.Shape, b.Shape)
	}
	out.DType, out.Shape = Float32, Shape{a.Shape[0], b.Shape[1]}
	return nil
}

// inferMatMul is for MatMul and FusedMatMul, and the product of Gemm. Both operands must have at least two dimensions.
func inferMatMul(n *Node) error {
	a, b, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if a.DType != b.DType || a.Rank() < 2 || b.Rank() < 2 {
		return fmt.Errorf("%s of %v%v and %v%v: want one type and at least two dimensions each", n.Op, a.DType, a.Shape, b.DType, b.Shape)
	}
	m, k := a.Shape[a.Rank()-2], a.Shape[a.Rank()-1]
	if n.Int("transA", 0) == 1 {
		m, k = k, m
	}
	k2, cols := b.Shape[b.Rank()-2], b.Shape[b.Rank()-1]
	if n.Int("transB", 0) == 1 {
		k2, cols = cols, k2
	}
	if k != k2 {
		return fmt.Errorf("%s of %v and %v: the inner sizes %v and %v differ", n.Op, a.Shape, b.Shape, k, k2)
	}
	batch, err := Broadcast(a.Shape[:a.Rank()-2], b.Shape[:b.Rank()-2])
	out.DType, out.Shape = a.DType, append(append(Shape{}, batch...), m, cols)
	return err
}

func inferGemm(n *Node) error {
	if n.Inputs[0].Rank() != 2 || n.Inputs[1].Rank() != 2 {
		return fmt.Errorf("Gemm of %v and %v: want matrices", n.Inputs[0].Shape, n.Inputs[1].Shape)
	}
	if err := inferMatMul(n); err != nil {
		return err
	}
	if len(n.Inputs) > 2 && n.Inputs[2] != nil {
		c := n.Inputs[2]
		if s, err := Broadcast(c.Shape, n.Outputs[0].Shape); err != nil || !s.Equal(n.Outputs[0].Shape) {
			return fmt.Errorf("Gemm: a bias of shape %v does not broadcast to the product's shape %v", c.Shape, n.Outputs[0].Shape)
		}
	}
	return nil
}

func inferLayerNormalization(n *Node) error {
	x := n.Inputs[0]
	if x.Rank() == 0 {
		return fmt.Errorf("LayerNormalization of a scalar: want at least one dimension")
	}
	last := x.Shape[x.Rank()-1:]
	for _, p := range n.Inputs[1:] {
		if !p.Shape.Equal(last) {
			return fmt.Errorf("LayerNormalization of %v: a parameter has the shape %v, want %v", x.Shape, p.Shape, last)
		}
	}
	n.Outputs[0].DType, n.Outputs[0].Shape = x.DType, x.Shape
	for _, o := range n.Outputs[1:] {
		o.DType, o.Shape = Float32, append(append(Shape{}, x.Shape[:x.Rank()-1]...), FixedDim(1))
	}
	return nil
}

// axesOf returns the axes that a node works on as numbers from 0 to rank-1. They are its second input, which must be a
// constant. A node without that input works on all axes.
func axesOf(n *Node, rank int) ([]int64, error) {
	var axes []int64
	if len(n.Inputs) > 1 && n.Inputs[1] != nil {
		if n.Inputs[1].Const == nil {
			return nil, fmt.Errorf("%s: the axes are not constant", n.Op)
		}
		axes = n.Inputs[1].Const.Int64s()
	} else {
		for i := 0; i < rank; i++ {
			axes = append(axes, int64(i))
		}
	}
	out := make([]int64, len(axes))
	for i, a := range axes {
		out[i] = a
		if a < 0 {
			out[i] = a + int64(rank)
		}
		if out[i] < 0 || out[i] >= int64(rank) {
			return nil, fmt.Errorf("%s: there is no axis %d in a value with %d dimensions", n.Op, a, rank)
		}
	}
	return out, nil
}

// Axes returns the axes that a reduction, Squeeze or Unsqueeze works on, as numbers from 0.
func (n *Node) Axes() ([]int64, error) {
	rank := n.Inputs[0].Rank()
	if n.Op == "Unsqueeze" {
		rank = n.Outputs[0].Rank()
	}
	return axesOf(n, rank)
}

func inferReduce(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	axes, err := axesOf(n, x.Rank())
	if err != nil {
		return err
	}
	out.DType, out.Shape = x.DType, Shape{}
	for i, d := range x.Shape {
		switch {
		case !slices.Contains(axes, int64(i)):
			out.Shape = append(out.Shape, d)
		case n.Int("keepdims", 1) == 1:
			out.Shape = append(out.Shape, FixedDim(1))
		}
	}
	return nil
}
