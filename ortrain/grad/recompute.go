package grad

import (
	"slices"

	"rag-retrieval-go/ortrain/onnx"
)

// Recompute marks v, so that the backward pass computes it again from its inputs. The forward pass then need not keep it
// in memory. Source: Chen et al. 2016 (gradient checkpointing). It returns v.
func Recompute(g *onnx.Graph, v *onnx.Value) *onnx.Value {
	g.Annotate(recomputeHint{v}, true)
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

// forwardValue returns a value of the forward pass for a rule to read: v itself, or its recomputation where Recompute
// marked it. Marked values among the inputs of v are recomputed too.
func (p *pass) forwardValue(v *onnx.Value) *onnx.Value {
	if v == nil || v.Producer == nil || !p.isRecomputed(v) {
		return v
	}
	if w, ok := p.recomputed[v]; ok {
		return w
	}
	defer p.recomputeComposite(v)()
	inputs := make([]*onnx.Value, len(v.Producer.Inputs))
	for i, in := range v.Producer.Inputs {
		inputs[i] = p.forwardValue(in)
	}
	defer p.Scope("recompute")()
	// Wait for the gradient. Otherwise ONNX Runtime may run the recomputation during the forward pass and keep its result.
	if in := inputs[0]; in == v.Producer.Inputs[0] && in.Rank() > 0 {
		inputs[0] = p.After(in, p.currentGrad)
	}
	node := p.Clone(v.Producer, inputs)
	for i, o := range v.Producer.Outputs {
		p.recomputed[o] = p.AssumeShape(node.Outputs[i], o.Shape)
	}
	return p.recomputed[v]
}

// input returns input i of n for a rule to read, see forwardValue.
func (p *pass) input(n *onnx.Node, i int) *onnx.Value { return p.forwardValue(n.Inputs[i]) }

// output returns output i of n for a rule to read, see forwardValue.
func (p *pass) output(n *onnx.Node, i int) *onnx.Value { return p.forwardValue(n.Outputs[i]) }
