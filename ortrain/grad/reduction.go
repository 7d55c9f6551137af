package grad

import "rag-retrieval-go/ortrain/onnx"

var reductionRules = map[string]rule{
	"ReduceSum":       unary(reduceSumRule),
	"ReduceMean":      unary(reduceMeanRule),
	"ReduceMax":       unary(reduceMaxRule),
	"ReduceSumSquare": unary(reduceSumSquareRule),
	"ReduceLogSumExp": unary(reduceLogSumExpRule),
}

// restoreDims inserts the dimensions that the reduction n dropped into v, as size 1, so that v broadcasts to n's input.
func (p *pass) restoreDims(n *onnx.Node, v *onnx.Value) *onnx.Value {
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

// reduceSumRule: dx = dy, expanded to the shape of x.
func reduceSumRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Expand(p.restoreDims(n, dy), p.shapeOf(n.Inputs[0]))
}

// reduceMeanRule: dx = dy / count, expanded to the shape of x, with the number of elements that each mean is taken over.
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
	dy = p.restoreDims(n, dy)
	if !fixed {
		// The count is a sum of ones. Shape operators run on the host, so a count made of them would have to be copied to
		// the GPU.
		return p.Div(p.Expand(dy, p.shapeOf(x)), p.ReduceSum(p.filledLike(x, 1), true, axes...))
	}
	count := int64(1)
	for _, a := range axes {
		count *= x.Shape[a].Size
	}
	return p.Expand(p.scale(dy, 1/float64(count)), p.shapeOf(x))
}

// reduceMaxRule: dx = [x = max] · dy / (the number of maxima). Equal maxima share the gradient evenly, as in PyTorch's amax.
func reduceMaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	axes, err := n.Axes()
	if err != nil {
		p.Fail("%w", err)
		return dy
	}
	isMax := p.Cast(p.Equal(p.input(n, 0), p.restoreDims(n, p.output(n, 0))), dy.DType)
	return p.Mul(isMax, p.Div(p.restoreDims(n, dy), p.ReduceSum(isMax, true, axes...)))
}

// reduceSumSquareRule: dx = 2x·dy.
func reduceSumSquareRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Mul(p.input(n, 0), p.scale(p.restoreDims(n, dy), 2))
}

// reduceLogSumExpRule: dx = exp(x - y)·dy, which is softmax(x)·dy.
func reduceLogSumExpRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Mul(p.Exp(p.Sub(p.input(n, 0), p.restoreDims(n, p.output(n, 0)))), p.restoreDims(n, dy))
}
