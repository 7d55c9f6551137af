package grad

import (
	"slices"

	"rag-retrieval-go/ortrain/onnx"
)

// Composite is a value that several nodes compute and one kernel could, and whose gradient another kernel could compute.
type Composite struct {
	Op     string // of the kernel for the value; the one for the gradients has the name Op + "Gradient"
	Inputs []*onnx.Value
	Value  *onnx.Value
	// Kept is a further output of the kernel that its gradient reads, such as a norm's inverse deviation; or nil.
	Kept  *onnx.Value
	Attrs onnx.Attrs

	nodes []*onnx.Node // in execution order
}

// Fuse tells both passes of the kernels for a composite value, which is computed by the nodes that build appends to the graph. build
// sets Value and Kept. Its nodes stay in the graph, and their rules make its gradient. Fuse returns the value.
func Fuse(g *onnx.Graph, c *Composite, build func(c *Composite)) *onnx.Value {
	before := len(g.Nodes)
	build(c)
	c.nodes = slices.Clone(g.Nodes[before:])
	if c.Value.DType != onnx.Float32 || g.StandardOpsOnly {
		return c.Value
	}
	g.Kernel(c.kernel(c.Inputs, []*onnx.Value{c.Value, c.Kept}))
	g.Annotate(compositeHint{c.Value.Producer}, c)
	g.Annotate(compositeValueHint{c.Value}, c)
	return c.Value
}

func (c *Composite) kernel(inputs, outputs []*onnx.Value) onnx.Kernel {
	return onnx.Kernel{Op: c.Op, Inputs: inputs, Outputs: outputs, Attrs: c.Attrs}
}

type (
	compositeHint      struct{ n *onnx.Node }  // -> *Composite
	compositeValueHint struct{ v *onnx.Value } // -> *Composite
)

// composite returns the composite value whose last node is n, or nil.
func (p *pass) composite(n *onnx.Node) *Composite {
	c, _ := p.Annotation(compositeHint{n}).(*Composite)
	return c
}

// differentiateComposite applies the rules of a composite's nodes apart from the rest of the graph, so that the gradients of its inputs
// are values that a kernel can compute.
func (p *pass) differentiateComposite(c *Composite, dy *onnx.Value) error {
	inputs := []*onnx.Value{dy}
	for _, v := range append(slices.Clone(c.Inputs), c.Kept) {
		inputs = append(inputs, p.forwardValue(v))
	}
	for _, n := range c.nodes {
		for _, v := range n.Outputs {
			if v != c.Value && len(p.contributions[v]) > 0 {
				p.Fail("node %s: another node reads %s, which is inside of the %s", n.Name, v.Name, c.Op)
			}
		}
	}
	outer := p.contributions
	p.contributions = map[*onnx.Value][]*onnx.Value{c.Value: {dy}}
	for _, n := range slices.Backward(c.nodes) {
		if err := p.apply(n); err != nil {
			return err
		}
		p.done[n] = true
	}
	gradients := make([]*onnx.Value, len(c.Inputs))
	for i, v := range c.Inputs {
		gradients[i] = p.gradient(v)
	}
	p.contributions = outer
	k := c.kernel(inputs, gradients)
	k.Op += "Gradient"
	p.Kernel(k)
	for i, v := range c.Inputs {
		if gradients[i] != nil {
			p.contribute(v, gradients[i])
		}
	}
	return nil
}

// recomputeComposite prepares the kernel of a composite value that the backward pass computes again. It is called before the value's
// nodes are copied; the function that it returns is called after that.
func (p *pass) recomputeComposite(v *onnx.Value) func() {
	c, _ := p.Annotation(compositeValueHint{v}).(*Composite)
	if c == nil {
		return func() {}
	}
	inputs := make([]*onnx.Value, len(c.Inputs))
	for i, in := range c.Inputs {
		inputs[i] = p.forwardValue(in)
	}
	if inputs[0] == c.Inputs[0] {
		inputs[0] = p.After(inputs[0], p.currentGrad)
	}
	return func() {
		p.Kernel(c.kernel(inputs, []*onnx.Value{p.recomputed[c.Value], p.recomputed[c.Kept]}))
	}
}
