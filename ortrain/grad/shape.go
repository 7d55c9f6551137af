package grad

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

var shapeRules = map[string]rule{
	"Reshape":   unary(likeInput),
	"Squeeze":   unary(likeInput),
	"Unsqueeze": unary(likeInput),
	"Transpose": unary(transposeRule),
	"Expand":    unary(func(_ *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return dy }), // add sums it down
	"Concat":    concatRule,
	"Split":     splitRule,
	"Slice":     sliceRule,
}

// likeInput gives the gradient the shape that the input had.
func likeInput(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.reshapeLike(dy, n.Inputs[0])
}

func transposeRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	perm := n.Ints("perm")
	inverse := make([]int64, len(perm))
	for i, a := range perm {
		inverse[a] = int64(i)
	}
	return p.Transpose(dy, inverse...)
}

// concatRule cuts the gradient at the joints.
func concatRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += dy.Rank()
	}
	sizes := make([]*onnx.Value, len(n.Inputs))
	for i, v := range n.Inputs {
		sizes[i] = p.size(v, axis)
	}
	parts := p.Op("", "Split", []*onnx.Value{dy, p.Concat(0, sizes...)}, onnx.Attrs{"axis": int64(axis)}, len(sizes))
	p.each(n, func(i int) *onnx.Value { return parts[i] })
	return nil
}

// splitRule joins the parts' gradients again; a part that nothing reads counts as zeros.
func splitRule(p *pass, n *onnx.Node, _ *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	parts := make([]*onnx.Value, len(n.Outputs))
	for i, v := range n.Outputs {
		if parts[i] = p.total(v); parts[i] == nil {
			parts[i] = p.zerosLike(v)
		}
	}
	d := p.Concat(n.Int("axis", 0), parts...)
	p.add(n, 0, p.Assume(d, n.Inputs[0].Shape))
	return nil
}

// sliceRule puts zeros where the slice cut off. Bounds must be constant and dimensions fixed there.
func sliceRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	x := n.Inputs[0]
	starts, axes := n.Inputs[1].Const.Int64s(), n.Inputs[3].Const.Int64s()
	pads := make([]int64, 2*x.Rank())
	for i, a := range axes {
		if a < 0 {
			a += int64(x.Rank())
		}
		size, cut := x.Shape[a], n.Outputs[0].Shape[a]
		if size == cut {
			continue
		}
		if starts == nil || !size.Fixed() || !cut.Fixed() {
			return fmt.Errorf("the gradient of Slice needs constant bounds and a fixed dimension, not %v", size)
		}
		start := starts[i]
		if start < 0 {
			start += size.Size
		}
		start = min(max(start, 0), size.Size)
		pads[a], pads[int(a)+x.Rank()] = start, size.Size-start-cut.Size
	}
	p.add(n, 0, p.Pad(dy, p.IntVector(pads...)))
	return nil
}
