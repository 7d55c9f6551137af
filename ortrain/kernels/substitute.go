package kernels

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// Domain is the operators' domain in a graph that was substituted.
const Domain = "rag_retrieval"

// Ops are the kernels that a file's metadata may name, with their numbers of inputs and outputs. Where they are Variadic, further inputs may
// follow. Any output of a gradient may be missing, and all but the first of other kernels. Those that compute Products do that in bfloat16
// where there is a Unit; of these some are there for bfloat16 only.
var Ops = map[string]struct {
	Inputs, Outputs              int
	Variadic, Products, OnlyBF16 bool
}{
	"Attention":          {Inputs: 4, Outputs: 1, Variadic: true, Products: true}, // dropout's factors follow
	"AttentionGradient":  {Inputs: 5, Outputs: 3, Variadic: true, Products: true},
	"Activation":         {Inputs: 1, Outputs: 1},
	"ActivationGradient": {Inputs: 2, Outputs: 1},
	"Gated":              {Inputs: 1, Outputs: 1},
	"GatedGradient":      {Inputs: 2, Outputs: 1},
	"LayerNormGradient":  {Inputs: 5, Outputs: 3},
	"RMSNorm":            {Inputs: 2, Outputs: 2},
	"RMSNormGradient":    {Inputs: 4, Outputs: 2},
	"SoftmaxGradient":    {Inputs: 2, Outputs: 1},
	"GatherGradient":     {Inputs: 3, Outputs: 1},
	"QuantizeRows":       {Inputs: 1, Outputs: 2},
	"AdamW":              {Inputs: 8, Outputs: 3},
	"SumOfSquares":       {Inputs: 1, Outputs: 1},
	"Accumulate":         {Inputs: 4, Outputs: 1},
	"LinearGradient":     {Inputs: 3, Outputs: 3, Products: true, OnlyBF16: true},
}

// Options say which kernels a graph gets. The zero value means those in float32.
type Options struct {
	// Unit computes the products that allow it in bfloat16; None computes them in float32.
	Unit Unit
	// Weights says which inputs of the graph are weights: their values change only when the input VersionInput does. Products in bfloat16 pack
	// them once until then. nil means none.
	Weights func(name string) bool
	// Memory has the data of constants that are neither in the graph's file nor in another one, by their names; see onnx.InMemory.
	Memory map[string][]byte
	// Release, unless it is nil, is called with the name of a constant of Memory as soon as its data are not needed any more. Several
	// goroutines call it at once.
	Release func(name string)
	// Folder is the folder that the paths of external data are relative to; "" means that there are none.
	Folder string
	// Threads is how many threads pack weights, and for how many a product is cut; 0 means one for each core.
	Threads int
}

// VersionInput is an input that Substitute adds to a graph with products of weights that change: int64, of shape [1].
const VersionInput = "rag_retrieval.weights_version"

// Graph is a graph with kernels.
type Graph struct {
	Model     []byte          // the contents of its ONNX file
	Packed    *Packed         // the data of initializers that stand empty in Model, or nil. The caller closes it
	Versioned bool            // whether it has VersionInput
	Constants map[string]bool // the names of its initializers in Model; nil if they are those of before
}

// Substitute puts kernels into a graph, which is the contents of an ONNX file: those that the file's metadata names, see
// onnx.Kernel. With a unit, matrix products that allow it are computed in bfloat16 on it. Their constant weights are packed here, and leave
// the graph unless other operators read them too. Where nothing changes, Model is model itself.
func Substitute(model []byte, o Options) (*Graph, error) {
	m := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(model, m); err != nil {
		return nil, fmt.Errorf("reading the graph: %w", err)
	}
	s, err := newSubstitution(m, o)
	if err != nil {
		return nil, fmt.Errorf("the graph's kernels: %w", err)
	}
	if !s.apply() {
		return &Graph{Model: model}, nil
	}
	g := &Graph{Versioned: s.versioned}
	if g.Packed, err = s.packConstants(); err != nil {
		return nil, err
	}
	g.Constants = map[string]bool{}
	for _, t := range s.graph.Initializer {
		g.Constants[t.Name] = true
	}
	m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: Domain, Version: 1})
	if g.Model, err = proto.Marshal(m); err != nil {
		return nil, errors.Join(err, g.Packed.Close())
	}
	return g, nil
}

type substitution struct {
	Options
	graph     *onnxpb.GraphProto
	entries   []onnx.KernelEntry
	products  []string
	constants map[string]*onnxpb.TensorProto
	inputs    map[string]bool
	versioned bool
	producer  map[string]int              // from a value to the position of the node or kernel that computes it
	replaced  map[string]bool             // values that a kernel computes
	before    map[int][]*onnxpb.NodeProto // kernels by the position of the node that they come before
}

func newSubstitution(m *onnxpb.ModelProto, o Options) (*substitution, error) {
	if m.Graph == nil {
		return nil, errors.New("the file has no graph")
	}
	s := &substitution{
		Options: o, graph: m.GetGraph(), constants: map[string]*onnxpb.TensorProto{}, inputs: map[string]bool{}, producer: map[string]int{},
		replaced: map[string]bool{}, before: map[int][]*onnxpb.NodeProto{},
	}
	for _, in := range s.graph.GetInput() {
		s.inputs[in.Name] = true
	}
	for _, t := range s.graph.GetInitializer() {
		if !s.inputs[t.Name] { // an input with a default value is no constant
			s.constants[t.Name] = t
		}
	}
	for _, p := range m.MetadataProps {
		var to any
		switch p.Key {
		case onnx.KernelsKey:
			to = &s.entries
		case onnx.ProductsKey:
			to = &s.products
		default:
			continue
		}
		if err := json.Unmarshal([]byte(p.Value), to); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Key, err)
		}
	}
	for i, n := range s.graph.GetNode() {
		for _, name := range n.Output {
			s.producer[name] = i
		}
	}
	return s, nil
}

// apply changes the graph and reports whether it did.
func (s *substitution) apply() bool {
	changed := false
	for _, e := range s.entries {
		op := Ops[e.Op]
		fits := (len(e.Inputs) == op.Inputs || op.Variadic && len(e.Inputs) > op.Inputs) && len(e.Outputs) > 0 && len(e.Outputs) <= op.Outputs &&
			(e.Outputs[0] != "" || strings.HasSuffix(e.Op, "Gradient"))
		if fits && (!op.OnlyBF16 || s.Unit != None) && s.replace(e) {
			changed = true
		}
	}
	if changed {
		s.insert()
	}
	if s.Unit != None && s.multiply() {
		changed = true
	}
	if s.versioned {
		s.addVersion()
	}
	if changed {
		s.prune()
	}
	return changed
}

// replace adds the node of a kernel, unless another kernel computes one of its outputs already. It comes before the first of the
// nodes that it replaces.
func (s *substitution) replace(e onnx.KernelEntry) bool {
	first := len(s.graph.Node)
	for _, name := range e.Outputs {
		i, ok := s.producer[name]
		if name != "" && (!ok || s.replaced[name]) {
			return false
		}
		if ok {
			first = min(first, i)
		}
	}
	late := func(name string) bool {
		i, ok := s.producer[name]
		return ok && (i > first || i == first && !s.replaced[name])
	}
	if first == len(s.graph.Node) || slices.ContainsFunc(e.Inputs, late) {
		return false
	}
	node := &onnxpb.NodeProto{
		Name: "kernel/" + firstName(e.Outputs), OpType: e.Op, Domain: Domain, Input: e.Inputs, Output: e.Outputs,
	}
	for name, x := range e.Ints {
		node.Attribute = append(node.Attribute, intAttribute(name, x))
	}
	for name, x := range e.Floats {
		node.Attribute = append(node.Attribute, &onnxpb.AttributeProto{Name: name, Type: onnxpb.AttributeProto_FLOAT, F: &x})
	}
	switch {
	case e.Op == "LinearGradient":
		s.product(node, 2)
	case Ops[e.Op].Products && s.Unit != None:
		node.Attribute = append(node.Attribute, intAttribute("bf16", 1), intAttribute("unit", s.Unit.number()))
	}
	s.before[first] = append(s.before[first], node)
	for _, name := range e.Outputs {
		if name == "" {
			continue
		}
		old := s.graph.Node[s.producer[name]]
		old.Output[slices.Index(old.Output, name)] = name + ":replaced"
		s.producer[name], s.replaced[name] = first, true
	}
	return true
}

// insert puts the kernels into the list of nodes.
func (s *substitution) insert() {
	var nodes []*onnxpb.NodeProto
	for i, n := range s.graph.Node {
		nodes = append(append(nodes, s.before[i]...), n)
	}
	s.graph.Node = nodes
}

// multiply makes products in bfloat16 of the nodes that allow it.
func (s *substitution) multiply() bool {
	changed := false
	for _, n := range s.graph.Node {
		if !slices.Contains(s.products, n.Name) || !isProduct(n) {
			continue
		}
		n.OpType, n.Domain = "Product", Domain
		n.Attribute = slices.DeleteFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool {
			return !slices.Contains([]string{"transA", "transB", "alpha"}, a.Name)
		})
		s.product(n, 1)
		changed = true
	}
	return changed
}

// isProduct reports whether the kernel Product computes what a node does: a Gemm, MatMul or FusedMatMul that adds its third input as it is
// and transposes no batch.
func isProduct(n *onnxpb.NodeProto) bool {
	stock := n.Domain == "" && (n.OpType == "Gemm" || n.OpType == "MatMul") || n.Domain == onnx.Microsoft && n.OpType == "FusedMatMul"
	return stock && len(n.Input) >= 2 && !slices.ContainsFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool {
		return a.Name == "beta" && a.GetF() != 1 || (a.Name == "transBatchA" || a.Name == "transBatchB") && a.GetI() != 0
	})
}

// versionAt is the number of the input of Product and LinearGradient that is the weights' version.
const versionAt = 3

// product adds to a product whose weight may be its input at the given place: the unit, and whether the weight is packed once.
func (s *substitution) product(n *onnxpb.NodeProto, at int) {
	weight, once := n.Input[at], int64(0)
	switch {
	case s.constants[weight] != nil:
		once = 1
	case s.inputs[weight] && s.Weights != nil && s.Weights(weight):
		once = 1
		for len(n.Input) < versionAt {
			n.Input = append(n.Input, "")
		}
		n.Input = append(n.Input, VersionInput)
		s.versioned = true
	}
	threads := int64(cmp.Or(s.Threads, runtime.NumCPU()))
	n.Attribute = append(n.Attribute, intAttribute("unit", s.Unit.number()), intAttribute("weight", once), intAttribute("threads", threads))
}

// addVersion adds VersionInput to the graph.
func (s *substitution) addVersion() {
	shape := &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 1}}}}
	tensor := &onnxpb.TypeProto_Tensor{ElemType: int32(onnx.Int64), Shape: shape}
	s.graph.Input = append(s.graph.Input, &onnxpb.ValueInfoProto{
		Name: VersionInput, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: tensor}},
	})
}

// prune removes the nodes that no output of the graph depends on.
func (s *substitution) prune() {
	needed := map[string]bool{}
	for _, v := range s.graph.Output {
		needed[v.Name] = true
	}
	var kept []*onnxpb.NodeProto
	for _, n := range slices.Backward(s.graph.Node) {
		if !slices.ContainsFunc(n.Output, func(name string) bool { return needed[name] }) {
			continue
		}
		for _, name := range n.Input {
			needed[name] = true
		}
		delete(needed, "") // a missing optional input
		kept = append(kept, n)
	}
	slices.Reverse(kept)
	s.graph.Node = kept
}

func intAttribute(name string, x int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: name, Type: onnxpb.AttributeProto_INT, I: &x}
}

func firstName(names []string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}
