package grad

import "rag-retrieval-go/ortrain/onnx"

// Hints tell the backward pass what the operators of a graph cannot say themselves: which values to compute twice instead
// of keeping them (Recompute), and which gradient to use where several are right (DifferentiateAs, Partition, Join). They
// are annotations of the graph, so they do not change the forward pass and are not part of its file. The keys are:
type (
	recomputeHint struct{ v *onnx.Value } // -> true
	referenceHint struct{ n *onnx.Node }  // -> *onnx.Value
	partitionHint struct{ n *onnx.Node }  // -> *Partition
	joinHint      struct{ n *onnx.Node }  // -> *Join
)

// DifferentiateAs gives v the gradient of ref, another computation of the same value by nodes that come before it. Use it
// where the forward pass runs a kernel that has no gradient rule. Mark the nodes of ref by RecomputeAll: then the forward
// pass skips them, and only the backward pass computes them. It returns v.
func DifferentiateAs(g *onnx.Graph, v, ref *onnx.Value) *onnx.Value {
	if v.DType != ref.DType || !v.Shape.Equal(ref.Shape) {
		g.Fail("%s is %v %v, but its reference %s is %v %v", v.Name, v.DType, v.Shape, ref.Name, ref.DType, ref.Shape)
	}
	g.Annotate(referenceHint{v.Producer}, ref)
	return v
}

// isRecomputed reports whether Recompute marked v.
func (p *pass) isRecomputed(v *onnx.Value) bool { return p.Annotation(recomputeHint{v}) != nil }

// reference returns the value that DifferentiateAs set for n's output, or nil.
func (p *pass) reference(n *onnx.Node) *onnx.Value {
	v, _ := p.Annotation(referenceHint{n}).(*onnx.Value)
	return v
}

// partition returns the Partition that a Gather is a part of, or nil.
func (p *pass) partition(n *onnx.Node) *Partition {
	part, _ := p.Annotation(partitionHint{n}).(*Partition)
	return part
}

// join returns the Join that a Gather is the last node of, or nil.
func (p *pass) join(n *onnx.Node) *Join {
	j, _ := p.Annotation(joinHint{n}).(*Join)
	return j
}
