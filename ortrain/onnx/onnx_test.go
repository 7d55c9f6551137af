package onnx

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sampleGraph has an attribute of every type, a shared constant, a weight and named dimensions.
func sampleGraph() *Graph {
	g := NewGraph("sample")
	g.Meta["made by"] = "a test"
	x := g.Input("x", Float32, NamedDim("batch"), FixedDim(4))
	end := g.Scope("layer")
	y := g.Gemm(x, g.Weight("w", Floats(make([]float32, 1024*4), 1024, 4)), nil, GemmAttrs{Alpha: 0.5, TransB: true})
	y = g.Add(y, g.Scalar(y, 1))
	y = g.Add(y, g.Scalar(y, 1))
	end()
	z := g.FusedMatMul(y, y, FusedMatMulAttrs{TransA: true})
	g.Output("z", g.Transpose(g.Softmax(z, -1), 1, 0))
	g.Output("ones", g.ConstantOfShape(g.Shape(x), Floats([]float32{1}, 1)))
	return g
}

func TestSaveThenLoad(t *testing.T) {
	g := sampleGraph()
	first, err := g.Bytes()
	check(t, err)
	rebuilt, err := sampleGraph().Bytes()
	check(t, err)
	if !bytes.Equal(first, rebuilt) {
		t.Error("two equal graphs have different bytes")
	}
	path := filepath.Join(t.TempDir(), "g.onnx")
	check(t, g.Save(path))
	loaded, err := Load(path)
	check(t, err)
	if len(loaded.Nodes) != len(g.Nodes) || loaded.Meta["made by"] != "a test" || loaded.Opset != Opset {
		t.Errorf("loaded %d nodes, opset %d, %v", len(loaded.Nodes), loaded.Opset, loaded.Meta)
	}
	if got := loaded.Outputs[1].Shape.String(); got != "[batch, 4]" {
		t.Errorf("the second output has the shape %s, want [batch, 4]", got)
	}
	saved, err := loaded.Bytes()
	check(t, err)
	if !bytes.Equal(first, saved) {
		t.Error("loading and saving changed the file")
	}
	if len(g.Initializers) != 2 || g.Nodes[1].Name != "layer/Add" || g.Nodes[2].Name != "layer/Add_1" {
		t.Errorf("%d constants, nodes %s and %s", len(g.Initializers), g.Nodes[1].Name, g.Nodes[2].Name)
	}
}

func TestExternalData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g.onnx")
	check(t, sampleGraph().save(path, 1000))
	st, err := os.Stat(path + ".data")
	check(t, err)
	if st.Size() != 1024*4*4 {
		t.Errorf("%d bytes of external data", st.Size())
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "external data") {
		t.Errorf("loading: %v", err)
	}
	if files, err := ExternalFiles(path); err != nil || len(files) != 1 || files[0] != path+".data" {
		t.Errorf("external files %v, %v", files, err)
	}
	check(t, sampleGraph().save(path, 1<<30))
	if files, err := ExternalFiles(path); err != nil || len(files) != 0 {
		t.Errorf("a file without external data: external files %v, %v", files, err)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	errorOf := func(build func(g *Graph, x, y *Value)) error {
		g := NewGraph("g")
		x, y := g.Input("x", Float32, NamedDim("n"), FixedDim(3)), g.Input("y", Float32, FixedDim(4))
		build(g, x, y)
		g.Output("out", g.Tanh(x))
		_, err := g.Bytes()
		return err
	}
	addOutput := func(g *Graph, _, _ *Value) { g.Outputs = append(g.Outputs, &Value{Name: "lost output"}) }
	for want, build := range map[string]func(g *Graph, x, y *Value){
		"node Add: shapes [n, 3] and [4] do not broadcast":         func(g *Graph, x, y *Value) { g.Add(x, y) },
		"the inner sizes 3 and n differ":                           func(g *Graph, x, _ *Value) { g.MatMul(x, x) },
		"Gemm of [n, 3] and [4]: want matrices":                    func(g *Graph, x, y *Value) { g.Gemm(x, y, nil, GemmAttrs{}) },
		`two values named "x"`:                                     func(g *Graph, _, _ *Value) { g.Input("x", Float32) },
		"Add of float32 and int64: the types differ":               func(g *Graph, x, _ *Value) { g.Add(x, g.IntScalar(1)) },
		"Concat of float32[n, 3] and float32[4]":                   func(g *Graph, x, y *Value) { g.Concat(0, x, y) },
		"Reshape of [n, 3] to [2, 2]":                              func(g *Graph, x, _ *Value) { g.ReshapeTo(x, 2, 2) },
		"Squeeze of axis 1 of [n, 3]":                              func(g *Graph, x, _ *Value) { g.Squeeze(x, 1) },
		"no shape inference for operator Foo":                      func(g *Graph, x, _ *Value) { g.op1("Foo", []*Value{x}, nil) },
		"Add: input 1 is missing":                                  func(g *Graph, x, _ *Value) { g.Add(x, nil) },
		"there is no axis 2 in a value with 2 dimensions":          func(g *Graph, x, _ *Value) { g.ReduceSum(x, false, 2) },
		"a parameter has the shape [4], want [3]":                  func(g *Graph, x, y *Value) { g.LayerNormalization(x, y, y, 1e-5) },
		"Split of [4] along axis 0 into [1, 2]":                    func(g *Graph, _, y *Value) { g.Split(y, 0, 1, 2) },
		"Expand: the shape s is not known when the graph is built": func(g *Graph, x, _ *Value) { g.Expand(x, g.Input("s", Int64, FixedDim(2))) },
		"Gather from [n, 3] along axis 0 with float32 indices":     func(g *Graph, x, y *Value) { g.Gather(x, y, 0) },
		`no node computes the output "lost output"`:                addOutput,
		"reads \"lost\" before it is computed":                     func(g *Graph, x, _ *Value) { g.Add(x, &Value{Name: "lost", DType: Float32, Shape: x.Shape}) },
	} {
		if err := errorOf(build); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestNamedDimensions(t *testing.T) {
	n, m := NamedDim("n"), NamedDim("m")
	for got, want := range map[string]string{
		Product(n, FixedDim(3), m, FixedDim(2)).String(): "6*m*n",
		Product(FixedDim(0), n).String():                 "0",
		addDims(m, FixedDim(2), n, FixedDim(1)).String(): "(m+n+3)",
		addDims(m).String():                              "m",
		Product(addDims(n, m), FixedDim(2)).String():     "2*(m+n)",
		Product(Product(n, FixedDim(2)), m, n).String():  "2*m*n*n",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for d, want := range map[Dim]int64{FixedDim(4): 4, n: 5, Product(n, FixedDim(2)): 10, Product(n, FixedDim(3), m, n): 525, NamedDim("whole"): 9} {
		if got, err := d.Resolve(map[string]int64{"n": 5, "m": 7, "whole": 9}); err != nil || got != want {
			t.Errorf("%s is %d, %v, want %d", d, got, err, want)
		}
	}
	for _, d := range []Dim{NamedDim("k"), Product(n, NamedDim("k")), addDims(n, m)} {
		if got, err := d.Resolve(map[string]int64{"n": 5, "m": 7}); err == nil || !strings.Contains(err.Error(), "is not given") {
			t.Errorf("%s is %d, %v", d, got, err)
		}
	}
	if d, ok := divDims(Product(n, m, FixedDim(6)), Product(m, FixedDim(3))); !ok || d.String() != "2*n" {
		t.Errorf("6*m*n / 3*m is %v, %v, want 2*n", d, ok)
	}
	if d, ok := divDims(Product(n, FixedDim(3)), Product(m)); ok {
		t.Errorf("3*n / m is %v, want none", d)
	}
}

func TestPruneKeepsWhatOutputsNeed(t *testing.T) {
	g := NewGraph("g")
	x := g.Input("x", Float32, FixedDim(2))
	g.Exp(g.Tanh(x))
	g.Output("y", g.Neg(x))
	g.Prune()
	if len(g.Nodes) != 1 || g.Nodes[0].Op != "Neg" {
		t.Errorf("%d nodes", len(g.Nodes))
	}
}

// Cut computes shapes again, and keeps every float value that the second graph reads, once.
func TestCut(t *testing.T) {
	g := NewGraph("g")
	x := g.Input("x", Float32, NamedDim("n"), FixedDim(2))
	a := g.Mul(x, x)
	b := g.Mul(a, a)
	shape, out := g.Shape(a), g.Identity(b)
	n := len(g.Nodes)
	g.Output("y", g.Add(g.Mul(a, b), g.Mul(g.Expand(g.Scalar(a, 2), shape), a)))
	first, rest, kept := g.Cut(n, out)
	if len(kept) != 2 || len(first.Outputs) != 3 || len(rest.Inputs) != 3 {
		t.Errorf("%d kept, %d outputs, %d inputs", len(kept), len(first.Outputs), len(rest.Inputs))
	}
	if op := rest.Nodes[0].Op; op != "Shape" || len(first.Nodes) != n {
		t.Errorf("the second graph begins with %s; the first has %d nodes, want %d", op, len(first.Nodes), n)
	}
	if err := errors.Join(first.Validate(), rest.Validate()); err != nil {
		t.Error(err)
	}
}

func TestNotAnONNXFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.onnx")
	check(t, os.WriteFile(path, []byte("not protobuf at all"), 0o600))
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Validate and Proto leave the graph as it is; a constant that no node reads is not written.
func TestUnusedConstantsAreNotWritten(t *testing.T) {
	g := NewGraph("unused")
	x := g.Input("x", Float32, FixedDim(2))
	unread := g.Weight("unread", Floats([]float32{1, 2}, 2))
	g.Output("y", g.Add(x, g.Weight("read", Floats([]float32{3, 4}, 2))))
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	m, err := g.Proto()
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Initializers) != 2 || g.Initializers[0] != unread {
		t.Errorf("the graph has the constants %v", g.Initializers)
	}
	if got := m.Graph.Initializer; len(got) != 1 || got[0].Name != "read" {
		t.Errorf("the file has the initializers %v", got)
	}
}
