package grad

import (
	"slices"

	"rag-retrieval-go/ortrain/onnx"
)

// Hints tell the backward pass what the operators of a graph cannot say themselves: which values to compute twice instead
// of keeping them, and which gradient to use where several are right. They are annotations of the graph, so they do not
// change the forward pass and are not part of its file.
type (
	recomputed struct{ v *onnx.Value } // -> true
	reference  struct{ n *onnx.Node }  // -> *onnx.Value
	partition  struct{ n *onnx.Node }  // -> *Partition
	join       struct{ n *onnx.Node }  // -> *Join
)

// Recompute marks a value that the backward pass computes again from its inputs instead of keeping it in memory.
// Source: Chen et al. 2016 (gradient checkpointing).
func Recompute(g *onnx.Graph, v *onnx.Value) *onnx.Value {
	g.Annotate(recomputed{v}, true)
	return v
}

// RecomputeAll marks every float value that the nodes compute, except the ones in keep.
func RecomputeAll(g *onnx.Graph, nodes []*onnx.Node, keep ...*onnx.Value) {
	for _, n := range nodes {
		for _, v := range n.Outputs {
			if v.DType.IsFloat() && !slices.Contains(keep, v) {
				Recompute(g, v)
			}
		}
	}
}

// DifferentiateAs gives v the gradient of ref, another computation of the same value by nodes that come before it. Use it
// where the forward pass runs a kernel that has no gradient rule. Mark the nodes of ref by RecomputeAll: then the forward
// pass skips them, and only the backward pass computes them.
func DifferentiateAs(g *onnx.Graph, v, ref *onnx.Value) *onnx.Value {
	if v.DType != ref.DType || !v.Shape.Equal(ref.Shape) {
		g.Fail("%s is %v %v, but the value that it is differentiated as is %v %v", v.Name, v.DType, v.Shape, ref.DType, ref.Shape)
	}
	g.Annotate(reference{v.Producer}, ref)
	return v
}

func (p *pass) isRecomputed(v *onnx.Value) bool { return p.Annotation(recomputed{v}) != nil }

// reference is the value whose gradient a node's output has instead of one of its own; nil for most nodes.
func (p *pass) reference(n *onnx.Node) *onnx.Value {
	v, _ := p.Annotation(reference{n}).(*onnx.Value)
	return v
}

// partition is the Partition that a Gather belongs to, or nil.
func (p *pass) partition(n *onnx.Node) *Partition {
	part, _ := p.Annotation(partition{n}).(*Partition)
	return part
}

// join is the Join that a Gather ends, or nil.
func (p *pass) join(n *onnx.Node) *Join {
	j, _ := p.Annotation(join{n}).(*Join)
	return j
}
