// Package grad differentiates ONNX graphs in reverse mode: it appends ordinary ONNX nodes that compute the gradient
// of a value with respect to chosen inputs. It runs nothing and knows nothing of models.
//
//	loss := g.ReduceMean(g.Mul(x, x), false)
//	grads, err := grad.Gradients(g, loss, []*onnx.Value{x})
//	g.Output("x.grad", grads[0])
//
// Every operator on the way from an input to the loss needs a rule; one without a rule is an error, never a zero.
package grad

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// Seed is the gradient of some final quantity with respect to a value of the graph.
type Seed struct {
	Value    *onnx.Value
	Gradient *onnx.Value // same shape as Value
}

// Gradients appends the backward pass of a scalar loss and gives d loss / d wrt[i], shaped as wrt[i]. An entry is
// nil where the loss does not depend on that value.
func Gradients(g *onnx.Graph, loss *onnx.Value, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if loss.Rank() != 0 {
		return nil, fmt.Errorf("the loss %s has the shape %v, not a scalar's", loss.Name, loss.Shape)
	}
	return Backward(g, []Seed{{loss, g.Scalar(loss, 1)}}, wrt)
}

// Backward is Gradients from the middle of a computation: the seeds are gradients that come from elsewhere, such as
// those of a contrastive loss with respect to embeddings.
func Backward(g *onnx.Graph, seeds []Seed, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if g.Err() != nil {
		return nil, g.Err()
	}
	defer g.Scope("backward")()
	forward := append([]*onnx.Node{}, g.Nodes...)
	p := &pass{
		Graph: g, active: reachable(forward, wrt), parts: map[*onnx.Value][]*onnx.Value{},
		again: map[*onnx.Value]*onnx.Value{}, sizes: map[string]*onnx.Value{}, ones: map[string]*onnx.Value{},
	}
	for _, s := range seeds {
		if !s.Value.Shape.Equal(s.Gradient.Shape) {
			return nil, fmt.Errorf("the gradient of %s has the shape %v, not %v", s.Value.Name, s.Gradient.Shape, s.Value.Shape)
		}
		p.parts[s.Value] = append(p.parts[s.Value], s.Gradient)
	}
	for i := len(forward) - 1; i >= 0; i-- {
		if err := p.visit(forward[i]); err != nil {
			return nil, err
		}
	}
	out := make([]*onnx.Value, len(wrt))
	for i, v := range wrt {
		out[i] = p.total(v)
	}
	return out, g.Err()
}

// reachable marks the float values that depend on one of the sources.
func reachable(nodes []*onnx.Node, sources []*onnx.Value) map[*onnx.Value]bool {
	active := map[*onnx.Value]bool{}
	for _, v := range sources {
		active[v] = true
	}
	for _, n := range nodes {
		depends := false
		for _, v := range n.Inputs {
			depends = depends || v != nil && active[v]
		}
		for _, v := range n.Outputs {
			if depends && v.DType.IsFloat() {
				active[v] = true
			}
		}
	}
	return active
}

// pass is one backward pass under construction. It embeds the graph, so that rules read as formulas.
type pass struct {
	*onnx.Graph
	active map[*onnx.Value]bool
	parts  map[*onnx.Value][]*onnx.Value // the gradients that consumers contributed so far
	again  map[*onnx.Value]*onnx.Value   // recomputed values
	sizes  map[string]*onnx.Value        // named dimensions as [1] int64 values
	ones   map[string]*onnx.Value        // rows of ones, by length and type
	now    *onnx.Value                   // the gradient whose rule is running
}

// rule adds the gradients of a node's inputs, given dy, the gradient of its first output.
type rule func(p *pass, n *onnx.Node, dy *onnx.Value) error

// visit runs the rule of a node whose output has a gradient.
func (p *pass) visit(n *onnx.Node) error {
	var dy *onnx.Value
	for i, v := range n.Outputs {
		d := p.total(v)
		if d == nil || !p.active[v] {
			continue
		}
		if n.Op == "Split" {
			dy = d // its rule reads every output's gradient itself
			continue
		}
		if i > 0 {
			return fmt.Errorf("node %s: operator %s has no gradient for its output %d", n.Name, n.Op, i)
		}
		dy = d
	}
	if dy == nil && !p.pending(n) {
		return nil
	}
	if ref := p.reference(n); ref != nil {
		p.parts[ref] = append(p.parts[ref], dy)
		return nil
	}
	f, ok := rules[n.Op]
	if !ok {
		return fmt.Errorf("node %s: operator %s has no gradient rule", n.Name, n.Op)
	}
	defer p.Scope(n.Name)()
	p.now = dy
	if err := f(p, n, dy); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return p.Err()
}

// needs says whether input i of n wants a gradient.
func (p *pass) needs(n *onnx.Node, i int) bool {
	return i < len(n.Inputs) && n.Inputs[i] != nil && p.active[n.Inputs[i]]
}

// add contributes d to the gradient of input i, summed down where the input was broadcast.
func (p *pass) add(n *onnx.Node, i int, d *onnx.Value) {
	v := n.Inputs[i]
	d = p.unbroadcast(d, v.Shape)
	if !d.Shape.Equal(v.Shape) {
		p.Fail("node %s: the gradient of input %d has the shape %v, not %v", n.Name, i, d.Shape, v.Shape)
	}
	p.parts[v] = append(p.parts[v], d)
}

// total sums what was contributed to v's gradient; nil where nothing was.
func (p *pass) total(v *onnx.Value) *onnx.Value {
	parts := p.parts[v]
	if len(parts) == 0 {
		return nil
	}
	sum := parts[0]
	for _, d := range parts[1:] {
		sum = p.Add(sum, d)
	}
	p.parts[v] = []*onnx.Value{sum}
	return sum
}

// value is v as the backward pass reads it: v itself, or a second computation of it where Recompute marked it.
func (p *pass) value(v *onnx.Value) *onnx.Value {
	if v == nil || v.Producer == nil || !p.isRecomputed(v) {
		return v
	}
	if w, ok := p.again[v]; ok {
		return w
	}
	inputs := make([]*onnx.Value, len(v.Producer.Inputs))
	for i, in := range v.Producer.Inputs {
		inputs[i] = p.value(in)
	}
	defer p.Scope("recompute")()
	// Not before its gradient is there: ONNX Runtime might run it in the forward pass and keep it.
	if in := inputs[0]; in == v.Producer.Inputs[0] && in.Rank() > 0 {
		inputs[0] = p.After(in, p.now)
	}
	node := p.Clone(v.Producer, inputs)
	for i, o := range v.Producer.Outputs {
		p.again[o] = p.Assume(node.Outputs[i], o.Shape)
	}
	return p.again[v]
}

// in is input i of n as the backward pass reads it.
func (p *pass) in(n *onnx.Node, i int) *onnx.Value { return p.value(n.Inputs[i]) }

// out is output i of n as the backward pass reads it.
func (p *pass) out(n *onnx.Node, i int) *onnx.Value { return p.value(n.Outputs[i]) }

// scale is x times a constant.
func (p *pass) scale(x *onnx.Value, by float64) *onnx.Value {
	if by == 1 {
		return x
	}
	return p.Mul(x, p.Scalar(x, by))
}

var rules map[string]rule

func init() {
	rules = map[string]rule{}
	for _, family := range []map[string]rule{
		elementwiseRules, matmulRules, reductionRules, normalizationRules, shapeRules, gatherRules,
	} {
		for op, f := range family {
			rules[op] = f
		}
	}
}
