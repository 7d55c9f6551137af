package grad

import "rag-retrieval-go/ortrain/onnx"

var reductionRules = map[string]rule{
	"ReduceSum":       unary(reduceSumRule),
	"ReduceMean":      unary(reduceMeanRule),
	"ReduceMax":       unary(reduceMaxRule),
	"ReduceSumSquare": unary(reduceSumSquareRule),
	"ReduceLogSumExp": unary(reduceLogSumExpRule),
}

// kept puts back the dimensions that a reduction dropped, as size one.
func (p *pass) kept(n *onnx.Node, v *onnx.Value) *onnx.Value {
	if n.Int("keepdims", 1) == 1 {
		return v
	}
	axes, err := n.Axes()
	if err != nil {
		p.Fail("%w", err)
		return v
	}
	return p.Unsqueeze(v, axes...)
}

func reduceSumRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Expand(p.kept(n, dy), p.shapeOf(n.Inputs[0]))
}

// reduceMeanRule divides by the number of elements averaged: those of the input over those of the output.
func reduceMeanRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x := n.Inputs[0]
	axes, err := n.Axes()
	if err != nil {
		p.Fail("%w", err)
		return dy
	}
	fixed := true
	for _, a := range axes {
		fixed = fixed && x.Shape[a].Fixed()
	}
	dy = p.kept(n, dy)
	if !fixed { // counted where the numbers are: a count made of shapes would be the host's, and copied to a GPU
		return p.Div(p.Expand(dy, p.shapeOf(x)), p.ReduceSum(p.filledLike(x, 1), true, axes...))
	}
	count := int64(1)
	for _, a := range axes {
		count *= x.Shape[a].Size
	}
	return p.Expand(p.scale(dy, 1/float64(count)), p.shapeOf(x))
}

// reduceMaxRule shares the gradient evenly among equal maxima, as PyTorch's amax does.
func reduceMaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	axes, err := n.Axes()
	if err != nil {
		p.Fail("%w", err)
		return dy
	}
	hit := p.Cast(p.Equal(p.in(n, 0), p.kept(n, p.out(n, 0))), dy.DType)
	return p.Mul(hit, p.Div(p.kept(n, dy), p.ReduceSum(hit, true, axes...)))
}

func reduceSumSquareRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Mul(p.in(n, 0), p.scale(p.kept(n, dy), 2))
}

// reduceLogSumExpRule: the softmax of x, from its own result.
func reduceLogSumExpRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Mul(p.Exp(p.Sub(p.in(n, 0), p.kept(n, p.out(n, 0)))), p.kept(n, dy))
}
