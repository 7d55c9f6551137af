package onnx

import (
	"fmt"
	"slices"
	"strings"
)

// Attrs are a node's attributes by name. A value is an int64, float32, string, []int64, []float32 or *Tensor.
type Attrs map[string]any

// Value is a tensor of a graph: an input, a constant or the output of a node. Its type and shape are inferred when the graph
// is built.
type Value struct {
	Name  string
	DType DType
	Shape Shape
	// Producer is the node that computes the value, or nil for a graph input or a constant.
	Producer *Node
	// Const is the contents of a constant, or nil for any other value.
	Const *Tensor

	// contents are the elements of an int64 scalar or vector, if they are known when the graph is built, else nil. They are
	// known for constants, and for shapes that the graph computes. ONNX calls this data propagation.
	contents []Dim
	// dependency is an empty tensor that is computed from this value, or nil. After uses it to wait for the value.
	dependency *Value
}

// Rank returns the number of dimensions.
func (v *Value) Rank() int { return len(v.Shape) }

// Node is one operator call.
type Node struct {
	Name    string
	Op      string
	Domain  string   // "" for operators of ai.onnx, or Microsoft
	Inputs  []*Value // nil for a missing optional input
	Outputs []*Value
	Attrs   Attrs
	// AllowsBF16 is set by Graph.AllowBF16.
	AllowsBF16 bool
}

// Int returns an integer attribute, or def if it is not set.
func (n *Node) Int(name string, def int64) int64 {
	if v, ok := n.Attrs[name].(int64); ok {
		return v
	}
	return def
}

// Float returns a float attribute, or def if it is not set.
func (n *Node) Float(name string, def float32) float32 {
	if v, ok := n.Attrs[name].(float32); ok {
		return v
	}
	return def
}

// Ints returns an attribute that is a list of integers, or nil if it is not set.
func (n *Node) Ints(name string) []int64 {
	v, _ := n.Attrs[name].([]int64)
	return v
}

// Opset is the version of ai.onnx that new graphs use. It is the first version in which all reductions take their axes as an
// input. Later versions do not run everywhere: up to ONNX Runtime 1.26, the CUDA provider has neither Equal of opset 19 nor
// ReduceMax of opset 20.
const Opset = 18

// Graph is a graph under construction. Its methods append nodes in execution order and infer their types and shapes. They
// do not return errors, so that code which builds a model reads as a list of operators. The first error is kept, and Err
// returns it.
type Graph struct {
	Name  string
	Opset int64
	// StandardOpsOnly restricts the graph to operators of ai.onnx, so that other runtimes than ONNX Runtime can run it. Gelu
	// and FusedMatMul are then composed of several operators.
	StandardOpsOnly bool
	Inputs          []*Value
	Outputs         []*Value
	Nodes           []*Node
	Initializers    []*Value          // constants, including a model's weights
	Meta            map[string]string // the file's metadata_props

	scopes       []string
	nameCounts   map[string]int    // how often each name was asked for
	sharedConsts map[string]*Value // the constants that Const made, by type, dimensions and contents
	annotations  map[any]any
	kernels      []Kernel
	err          error
}

// NewGraph returns an empty graph.
func NewGraph(name string) *Graph {
	return &Graph{
		Name: name, Opset: Opset, Meta: map[string]string{},
		nameCounts: map[string]int{}, sharedConsts: map[string]*Value{}, annotations: map[any]any{},
	}
}

// Err returns the first error in building the graph, or nil.
func (g *Graph) Err() error { return g.err }

// Fail records an error. Only the first one is kept. It takes the same arguments as fmt.Errorf.
func (g *Graph) Fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("graph %s: %w", g.Name, fmt.Errorf(format, args...))
	}
}

// Scope prefixes the names of new nodes with name and a slash, until the returned function is called.
func (g *Graph) Scope(name string) func() {
	g.scopes = append(g.scopes, name)
	depth := len(g.scopes)
	return func() { g.scopes = g.scopes[:depth-1] }
}

// unique returns name, or name with a number appended if it is taken, and marks the result as taken.
func (g *Graph) unique(name string) string {
	n := g.nameCounts[name]
	g.nameCounts[name] = n + 1
	if n == 0 {
		return name
	}
	return g.unique(fmt.Sprintf("%s_%d", name, n))
}

// scoped returns name with the prefixes of the open scopes.
func (g *Graph) scoped(name string) string {
	return strings.Join(append(append([]string{}, g.scopes...), name), "/")
}

// Input adds a graph input. Its name has no scope prefix, so that the program that runs the graph can bind a tensor to it.
func (g *Graph) Input(name string, dtype DType, shape ...Dim) *Value {
	v := &Value{Name: g.claim(name), DType: dtype, Shape: shape}
	g.Inputs = append(g.Inputs, v)
	return v
}

// Output makes v a graph output and renames it to name.
func (g *Graph) Output(name string, v *Value) {
	if v == nil {
		g.Fail("output %q has no value", name)
		return
	}
	if v.Producer == nil || g.isOutput(v) {
		v = g.Identity(v) // an input, a constant or another output already has its final name
	}
	g.Rename(v, name)
	g.Outputs = append(g.Outputs, v)
}

func (g *Graph) isOutput(v *Value) bool { return slices.Contains(g.Outputs, v) }

// Rename changes the name of a value. The name must not be taken.
func (g *Graph) Rename(v *Value, name string) { v.Name = g.claim(name) }

// claim marks name as taken and returns it. A name that is taken already is an error.
func (g *Graph) claim(name string) string {
	if g.nameCounts[name] > 0 {
		g.Fail("two values named %q", name)
	}
	return g.unique(name)
}

// Weight adds a constant with a name, such as a model's parameter. The name must not be taken.
func (g *Graph) Weight(name string, t *Tensor) *Value { return g.addInitializer(g.claim(name), t) }

func (g *Graph) addInitializer(name string, t *Tensor) *Value {
	v := &Value{Name: name, DType: t.DType, Shape: Dims(t.Dims...), Const: t}
	if t.DType == Int64 && len(t.Dims) <= 1 {
		v.contents = []Dim{}
		for _, n := range t.Int64s() {
			v.contents = append(v.contents, FixedDim(n))
		}
	}
	g.Initializers = append(g.Initializers, v)
	return v
}

// Const returns a constant with these contents. It adds one unless the graph has an equal constant already.
func (g *Graph) Const(t *Tensor) *Value {
	key := fmt.Sprint(t.DType, t.Dims, string(t.Raw))
	if v, ok := g.sharedConsts[key]; ok {
		return v
	}
	v := g.addInitializer(g.unique("const"), t)
	g.sharedConsts[key] = v
	return v
}

// Scalar returns a constant scalar x of the same floating-point type as like.
func (g *Graph) Scalar(like *Value, x float64) *Value { return g.Const(Filled(like.DType, x)) }

// IntVector returns a constant 1-D int64 tensor, such as a shape or a list of axes.
func (g *Graph) IntVector(values ...int64) *Value {
	return g.Const(Ints(values, int64(len(values))))
}

// IntScalar returns a constant int64 scalar.
func (g *Graph) IntScalar(value int64) *Value { return g.Const(Ints([]int64{value})) }

// AssumeShape replaces the inferred shape of v and returns v. Use it where the caller knows a dimension that cannot be
// inferred. The caller answers for it: nothing checks the shape when the graph runs.
func (g *Graph) AssumeShape(v *Value, shape Shape) *Value {
	if v.Rank() != len(shape) {
		g.Fail("value %s has %d dimensions, but its assumed shape %v has %d", v.Name, v.Rank(), shape, len(shape))
		return v
	}
	v.Shape = shape
	return v
}

// Annotate attaches a fact to the graph for another package, such as a hint for differentiation. The type of the key must
// belong to that package, as for context.WithValue, so that the keys of two packages are never equal. Annotations are not
// written to files.
func (g *Graph) Annotate(key, fact any) { g.annotations[key] = fact }

// Annotation returns the fact that was attached under a key, or nil.
func (g *Graph) Annotation(key any) any { return g.annotations[key] }

// Op appends a node with the given number of outputs, infers their types and shapes, and returns them. An input may be nil
// if the operator's input is optional.
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

// op1 appends a node of ai.onnx with one output.
func (g *Graph) op1(op string, inputs []*Value, attrs Attrs) *Value {
	return g.Op("", op, inputs, attrs, 1)[0]
}

// Clone appends a copy of a node with other inputs.
func (g *Graph) Clone(n *Node, inputs []*Value) *Node {
	clone := g.Op(n.Domain, n.Op, inputs, n.Attrs, len(n.Outputs))[0].Producer
	clone.AllowsBF16 = n.AllowsBF16
	return clone
}
