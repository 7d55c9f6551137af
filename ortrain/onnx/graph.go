package onnx

import (
	"fmt"
	"strings"
)

// Attrs are a node's attributes: int64, float32, string, []int64, []float32 or *Tensor.
type Attrs map[string]any

// Value is one tensor of a graph. Its type and shape are inferred when the graph is built.
type Value struct {
	Name  string
	DType DType
	Shape Shape
	// Producer is the node that computes it; nil for graph inputs and constants.
	Producer *Node
	// Const holds a constant's contents; nil for everything else.
	Const *Tensor

	waited   *Value // the empty tensor by which After waits for this value
	contents []Dim  // what a 1-D int64 value holds, where that is known: shapes computed in the graph
}

// Rank is the number of dimensions.
func (v *Value) Rank() int { return len(v.Shape) }

// Node is one operator call.
type Node struct {
	Name    string
	Op      string
	Domain  string // "" is ai.onnx, "com.microsoft" ONNX Runtime's own operators
	Inputs  []*Value
	Outputs []*Value
	Attrs   Attrs
}

// Int gives an integer attribute, or def where it is not set.
func (n *Node) Int(name string, def int64) int64 {
	if v, ok := n.Attrs[name].(int64); ok {
		return v
	}
	return def
}

// Float gives a float attribute, or def where it is not set.
func (n *Node) Float(name string, def float32) float32 {
	if v, ok := n.Attrs[name].(float32); ok {
		return v
	}
	return def
}

// Ints gives a list attribute; nil where it is not set.
func (n *Node) Ints(name string) []int64 {
	v, _ := n.Attrs[name].([]int64)
	return v
}

// Opset is the version of ai.onnx that training graphs are written in: the first whose reductions all take their axes as
// an input. CUDA's provider lacks Equal of opset 19 and ReduceMax of opset 20 up to ONNX Runtime 1.26.
const Opset = 18

// Graph is a graph under construction. Its methods append operators in execution order and infer types and
// shapes as they go. The first mistake is kept and returned by Err, so that a model reads as a list of operators.
type Graph struct {
	Name  string
	Opset int64
	// Standard keeps the graph to the operators of ai.onnx, for other runtimes than ONNX Runtime: Gelu and FusedMatMul are
	// composed of them.
	Standard bool
	Inputs   []*Value
	Outputs  []*Value
	Nodes    []*Node
	Consts   []*Value // constants and weights (initializers)
	Meta     map[string]string

	scopes      []string
	names       map[string]int
	shared      map[string]*Value // constants by their contents
	annotations map[any]any
	err         error
}

// NewGraph starts an empty graph.
func NewGraph(name string) *Graph {
	return &Graph{
		Name: name, Opset: Opset, Meta: map[string]string{},
		names: map[string]int{}, shared: map[string]*Value{}, annotations: map[any]any{},
	}
}

// Err is the first mistake made in building the graph.
func (g *Graph) Err() error { return g.err }

// Fail records a mistake; only the first is kept.
func (g *Graph) Fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("graph %s: %w", g.Name, fmt.Errorf(format, args...))
	}
}

// Scope puts a prefix before the names of the nodes made until the returned function is called.
func (g *Graph) Scope(name string) func() {
	g.scopes = append(g.scopes, name)
	depth := len(g.scopes)
	return func() { g.scopes = g.scopes[:depth-1] }
}

// unique makes name unused by adding a number, if it has to.
func (g *Graph) unique(name string) string {
	n := g.names[name]
	g.names[name] = n + 1
	if n == 0 {
		return name
	}
	return g.unique(fmt.Sprintf("%s_%d", name, n))
}

func (g *Graph) scoped(name string) string {
	return strings.Join(append(append([]string{}, g.scopes...), name), "/")
}

// Input adds a graph input. Names are used as they are, so that hosts can bind them.
func (g *Graph) Input(name string, dtype DType, shape ...Dim) *Value {
	if g.names[name] > 0 {
		g.Fail("two values named %q", name)
	}
	v := &Value{Name: g.unique(name), DType: dtype, Shape: shape}
	g.Inputs = append(g.Inputs, v)
	return v
}

// Output makes v a graph output called name.
func (g *Graph) Output(name string, v *Value) {
	if v == nil {
		g.Fail("output %q has no value", name)
		return
	}
	if v.Producer == nil || g.isOutput(v) {
		v = g.Identity(v) // an input, a constant or another output cannot take a second name
	}
	g.Rename(v, name)
	g.Outputs = append(g.Outputs, v)
}

func (g *Graph) isOutput(v *Value) bool {
	for _, o := range g.Outputs {
		if o == v {
			return true
		}
	}
	return false
}

// Rename gives a value a name of its own.
func (g *Graph) Rename(v *Value, name string) {
	if g.names[name] > 0 {
		g.Fail("two values named %q", name)
	}
	v.Name = g.unique(name)
}

// Weight adds a named constant: a model's parameter inside the file.
func (g *Graph) Weight(name string, t *Tensor) *Value {
	if g.names[name] > 0 {
		g.Fail("two values named %q", name)
	}
	return g.addConst(g.unique(name), t)
}

func (g *Graph) addConst(name string, t *Tensor) *Value {
	v := &Value{Name: name, DType: t.DType, Shape: Dims(t.Dims...), Const: t}
	if t.DType == Int64 && len(t.Dims) <= 1 {
		v.contents = []Dim{}
		for _, n := range t.Int64s() {
			v.contents = append(v.contents, D(n))
		}
	}
	g.Consts = append(g.Consts, v)
	return v
}

// Const adds a constant; equal ones are shared.
func (g *Graph) Const(t *Tensor) *Value {
	key := fmt.Sprint(t.DType, t.Dims, string(t.Raw))
	if v, ok := g.shared[key]; ok {
		return v
	}
	v := g.addConst(g.unique("const"), t)
	g.shared[key] = v
	return v
}

// Scalar is a constant scalar of like's float type.
func (g *Graph) Scalar(like *Value, x float64) *Value { return g.Const(Filled(like.DType, x)) }

// IntVector is a constant 1-D int64 tensor, as shapes and axes are.
func (g *Graph) IntVector(values ...int64) *Value {
	return g.Const(Ints(values, int64(len(values))))
}

// IntScalar is a constant int64 scalar.
func (g *Graph) IntScalar(value int64) *Value { return g.Const(Ints([]int64{value})) }

// Assume replaces v's inferred shape by one that the host vouches for, where inference cannot know it.
func (g *Graph) Assume(v *Value, shape Shape) *Value {
	if v.Rank() != len(shape) {
		g.Fail("value %s has %d dimensions, not %d", v.Name, v.Rank(), len(shape))
		return v
	}
	v.Shape = shape
	return v
}

// Annotate attaches a fact to the graph for another package, as context.WithValue attaches one to a context: the key has a
// type of that package, so that keys of two packages never meet. Files do not hold annotations.
func (g *Graph) Annotate(key, fact any) { g.annotations[key] = fact }

// Annotation is the fact attached under a key; nil where there is none.
func (g *Graph) Annotation(key any) any { return g.annotations[key] }

// Op appends a node with the given number of outputs and infers their types. Inputs may be nil where the
// operator's are optional.
func (g *Graph) Op(domain, op string, inputs []*Value, attrs Attrs, outputs int) []*Value {
	node := &Node{Name: g.unique(g.scoped(op)), Op: op, Domain: domain, Inputs: inputs, Attrs: attrs}
	for i := 0; i < outputs; i++ {
		name := node.Name + ":out"
		if i > 0 {
			name = fmt.Sprintf("%s%d", name, i)
		}
		node.Outputs = append(node.Outputs, &Value{Name: g.unique(name), DType: Float32, Producer: node})
	}
	g.Nodes = append(g.Nodes, node)
	if g.err != nil {
		return node.Outputs
	}
	if err := infer(node); err != nil {
		g.Fail("node %s: %w", node.Name, err)
	}
	return node.Outputs
}

func (g *Graph) op1(op string, inputs []*Value, attrs Attrs) *Value {
	return g.Op("", op, inputs, attrs, 1)[0]
}

// Clone appends a copy of a node that reads other inputs; the backward pass recomputes values with it.
func (g *Graph) Clone(n *Node, inputs []*Value) *Node {
	outs := g.Op(n.Domain, n.Op, inputs, n.Attrs, len(n.Outputs))
	return outs[0].Producer
}
