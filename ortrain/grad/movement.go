package grad

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// The operators that move elements without computing. Their gradients move them back.
var movementRules = map[string]rule{
	"Reshape":   unary(reshapeRule),
	"Squeeze":   unary(reshapeRule),
	"Unsqueeze": unary(reshapeRule),
	"Transpose": unary(transposeRule),
	"Expand":    unary(expandRule),
	"Concat":    concatRule,
	"Split":     splitRule,
	"Slice":     sliceRule,
}

// reshapeRule: dx = dy in the shape of x.
func reshapeRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.reshapeLike(dy, n.Inputs[0])
}

// transposeRule: dx = dy transposed by the inverse permutation.
func transposeRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	perm := n.Ints("perm")
	inverse := make([]int64, len(perm))
	for i, a := range perm {
		inverse[a] = int64(i)
	}
	return p.Transpose(dy, inverse...)
}

// expandRule: dx = Σ dy over the expanded dimensions. accumulate takes this sum.
func expandRule(_ *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return dy }

// concatRule: the gradients of the inputs are dy split at the boundaries between them.
func concatRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += dy.Rank()
	}
	parts := p.Op("", "Split", []*onnx.Value{dy, p.concatSizes(n, axis)}, onnx.Attrs{"axis": int64(axis)}, len(n.Inputs))
	p.accumulateEach(n, func(i int) *onnx.Value { return parts[i] })
	return nil
}

// concatSizes returns the sizes of a Concat's inputs along its axis as a 1-D int64 value. If all sizes are fixed, it is a
// constant. If it were concatenated when the graph runs, it would have to be copied from the GPU to the host, where Split
// reads its sizes.
func (p *pass) concatSizes(n *onnx.Node, axis int) *onnx.Value {
	dims := make(onnx.Shape, len(n.Inputs)) // not the shape of a value: one dimension of each input
	for i, v := range n.Inputs {
		dims[i] = v.Shape[axis]
	}
	if sizes, ok := dims.Sizes(); ok {
		return p.IntVector(sizes...)
	}
	sizes := make([]*onnx.Value, len(n.Inputs))
	for i, v := range n.Inputs {
		sizes[i] = p.dimSize(v, axis)
	}
	return p.Concat(0, sizes...)
}

// splitRule: dx = the concatenated gradients of the outputs, with zeros for an output that has none.
func splitRule(p *pass, n *onnx.Node, _ *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	parts := make([]*onnx.Value, len(n.Outputs))
	for i, v := range n.Outputs {
		if parts[i] = p.gradient(v); parts[i] == nil {
			parts[i] = p.zerosLike(v)
		}
	}
	d := p.Concat(n.Int("axis", 0), parts...)
	p.accumulate(n, 0, p.AssumeShape(d, n.Inputs[0].Shape))
	return nil
}

// sliceRule: dx = dy padded with zeros where the slice cut x off. Every sliced axis needs constant bounds and a fixed size.
func sliceRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	x := n.Inputs[0]
	starts, axes := n.Inputs[1].Const.Int64s(), n.Inputs[3].Const.Int64s()
	pads := make([]int64, 2*x.Rank()) // the zeros before each axis, then the zeros after each axis
	for i, a := range axes {
		if a < 0 {
			a += int64(x.Rank())
		}
		size, sliced := x.Shape[a], n.Outputs[0].Shape[a]
		if size == sliced {
			continue
		}
		if starts == nil || !size.Fixed() || !sliced.Fixed() {
			return fmt.Errorf("the gradient of Slice needs constant bounds and a fixed size, but axis %d has the size %v", a, size)
		}
		start := starts[i]
		if start < 0 {
			start += size.Size
		}
		start = min(max(start, 0), size.Size)
		pads[a], pads[int(a)+x.Rank()] = start, size.Size-start-sliced.Size
	}
	p.accumulate(n, 0, p.Pad(dy, p.IntVector(pads...)))
	return nil
}
