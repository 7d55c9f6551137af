// Package grad differentiates ONNX graphs in reverse mode. It appends ordinary ONNX nodes, which compute the gradient of a
// value with respect to chosen inputs. It runs nothing and knows nothing of models.
//
//	loss := g.ReduceMean(g.Mul(x, x), false)
//	grads, err := grad.Gradients(g, loss, []*onnx.Value{x})
//	g.Output("x.grad", grads[0])
//
// Each operator has a rule: given dy, the gradient of the operator's output, the rule appends nodes for the gradients of
// its inputs (the vector-Jacobian product). Every operator between an input and the loss needs one. An operator without a
// rule is an error; its gradient is never taken to be zero.
package grad

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// Seed is a gradient to start from: the gradient of the loss with respect to a value of the graph.
type Seed struct {
	Value    *onnx.Value
	Gradient *onnx.Value // same shape as Value
}

// Gradients appends the backward pass of a scalar loss. It returns d loss / d wrt[i] for each i, with the shape of wrt[i],
// or nil where the loss does not depend on that value.
func Gradients(g *onnx.Graph, loss *onnx.Value, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if loss.Rank() != 0 {
		return nil, fmt.Errorf("the loss %s has the shape %v, want a scalar", loss.Name, loss.Shape)
	}
	return Backward(g, []Seed{{loss, g.Scalar(loss, 1)}}, wrt)
}

// Backward appends a backward pass that starts from gradients computed elsewhere, such as the gradient of a contrastive
// loss with respect to embeddings. It returns Σ over seeds of Gradient · d Value / d wrt[i] for each i (a vector-Jacobian
// product), with the shape of wrt[i], or nil where no seed's value depends on wrt[i].
func Backward(g *onnx.Graph, seeds []Seed, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if g.Err() != nil {
		return nil, g.Err()
	}
	defer g.Scope("backward")()
	forward := append([]*onnx.Node{}, g.Nodes...)
	p := &pass{
		Graph: g, active: activeValues(forward, wrt), contributions: map[*onnx.Value][]*onnx.Value{},
		recomputed: map[*onnx.Value]*onnx.Value{}, dimSizes: map[string]*onnx.Value{}, onesRows: map[string]*onnx.Value{},
		done: map[*onnx.Node]bool{},
	}
	for _, s := range seeds {
		if !s.Value.Shape.Equal(s.Gradient.Shape) {
			return nil, fmt.Errorf("the gradient of %s has the shape %v, want %v", s.Value.Name, s.Gradient.Shape, s.Value.Shape)
		}
		p.contribute(s.Value, s.Gradient)
	}
	for i := len(forward) - 1; i >= 0; i-- {
		if err := p.visit(forward[i]); err != nil {
			return nil, err
		}
	}
	out := make([]*onnx.Value, len(wrt))
	for i, v := range wrt {
		out[i] = p.gradient(v)
	}
	return out, g.Err()
}

// activeValues returns the float values that depend on one of the sources. Only these need gradients.
func activeValues(nodes []*onnx.Node, sources []*onnx.Value) map[*onnx.Value]bool {
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

// pass is a backward pass under construction. It embeds the graph, so that rules read as formulas.
type pass struct {
	*onnx.Graph
	active        map[*onnx.Value]bool          // the values that need a gradient
	contributions map[*onnx.Value][]*onnx.Value // the summands of a value's gradient, one for each consumer visited so far
	recomputed    map[*onnx.Value]*onnx.Value   // from a value of the forward pass to its recomputation, see forward
	currentGrad   *onnx.Value                   // dy of the rule that is running
	dimSizes      map[string]*onnx.Value        // from a dimension's name to its size, int64 [1], see dimSize
	onesRows      map[string]*onnx.Value        // from a length and a type to a row of ones, see columnSums
	done          map[*onnx.Node]bool           // nodes of a Composite that was differentiated
}

// rule appends the gradients of a node's inputs. dy is the gradient of the node's first output.
type rule func(p *pass, n *onnx.Node, dy *onnx.Value) error

// rules has the rule of each operator, by its name.
var rules map[string]rule

func init() {
	rules = map[string]rule{}
	for _, family := range []map[string]rule{
		elementwiseRules, matmulRules, reductionRules, normalizationRules, movementRules, gatherRules,
	} {
		for op, f := range family {
			rules[op] = f
		}
	}
}

// visit differentiates a node, and with the last node of a Composite all of its nodes.
func (p *pass) visit(n *onnx.Node) error {
	if p.done[n] {
		return nil
	}
	c := p.composite(n)
	if c == nil {
		return p.apply(n)
	}
	dy := p.gradient(c.Value)
	if dy == nil || !p.active[c.Value] {
		return nil
	}
	defer p.Scope(n.Name)()
	p.currentGrad = dy
	return p.differentiateComposite(c, dy)
}

// apply runs a node's rule if one of its outputs has a gradient.
func (p *pass) apply(n *onnx.Node) error {
	dy, err := p.outputGradient(n)
	if err != nil {
		return err
	}
	if dy == nil && !p.partitionHasGradient(n) {
		return nil
	}
	if ref := p.reference(n); ref != nil {
		p.contribute(ref, dy)
		return nil
	}
	f, ok := rules[n.Op]
	if !ok {
		return fmt.Errorf("node %s: operator %s has no gradient rule", n.Name, n.Op)
	}
	defer p.Scope(n.Name)()
	p.currentGrad = dy
	if err := f(p, n, dy); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return p.Err()
}

// outputGradient returns the gradient of n's first output, or nil where it has none. A gradient of a further output is an
// error, except for Split: there the result is the gradient of any output, and splitRule reads all of them itself.
func (p *pass) outputGradient(n *onnx.Node) (*onnx.Value, error) {
	var dy *onnx.Value
	for i, v := range n.Outputs {
		d := p.gradient(v)
		if d == nil || !p.active[v] {
			continue
		}
		if i > 0 && n.Op != "Split" {
			return nil, fmt.Errorf("node %s: operator %s has no gradient for its output %d", n.Name, n.Op, i)
		}
		dy = d
	}
	return dy, nil
}

// needs reports whether input i of n needs a gradient.
func (p *pass) needs(n *onnx.Node, i int) bool {
	return i < len(n.Inputs) && n.Inputs[i] != nil && p.active[n.Inputs[i]]
}

// accumulate adds d to the gradient of input i of n, after summing it over the dimensions along which the operator
// broadcast that input. A nil d adds nothing.
func (p *pass) accumulate(n *onnx.Node, i int, d *onnx.Value) {
	if d == nil {
		return
	}
	v := n.Inputs[i]
	d = p.unbroadcast(d, v.Shape)
	if !d.Shape.Equal(v.Shape) {
		p.Fail("node %s: the gradient of input %d has the shape %v, want %v", n.Name, i, d.Shape, v.Shape)
	}
	p.contribute(v, d)
}

// contribute adds d, which has v's shape, to the gradient of v.
func (p *pass) contribute(v, d *onnx.Value) { p.contributions[v] = append(p.contributions[v], d) }

// gradient returns the sum of the contributions to v's gradient, or nil where there are none.
func (p *pass) gradient(v *onnx.Value) *onnx.Value {
	summands := p.contributions[v]
	if len(summands) == 0 {
		return nil
	}
	sum := summands[0]
	for _, d := range summands[1:] {
		sum = p.Add(sum, d)
	}
	p.contributions[v] = []*onnx.Value{sum}
	return sum
}
