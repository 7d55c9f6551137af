package artifact

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// The linear model of these tests: rows y = x·w + b of width 2, and the loss, the sum of y².
var (
	inputX = []float32{1, 2, 3, 4, 5, 6} // [3, 2]
	valueW = []float32{1, -1, 0.5, 2}    // [2, 2]
	valueB = []float32{0.25, -0.5}       // [2]
)

func linear() Model {
	return Model{
		Name:   "linear",
		Params: []flat.Param{{Name: "w", Dims: []int64{2, 2}, Decay: true}, {Name: "b", Dims: []int64{2}}},
		Encode: func(g *onnx.Graph, param func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(2))
			return g.Gemm(x, param("w"), param("b"), onnx.GemmAttrs{})
		},
		Loss: func(g *onnx.Graph, y *onnx.Value) *onnx.Value { return g.ReduceSumSquare(y, false) },
	}
}

// expected computes the rows y, the loss and the gradients: 2y of the rows, xᵀ·2y of w, the sum over rows of 2y of b.
func expected() (rows []float32, loss float32, w, b []float32) {
	w, b = make([]float32, 4), make([]float32, 2)
	for i := range 3 {
		for k := range 2 {
			y := inputX[2*i]*valueW[k] + inputX[2*i+1]*valueW[2+k] + valueB[k]
			rows = append(rows, y)
			loss += y * y
			w[k] += 2 * y * inputX[2*i]
			w[2+k] += 2 * y * inputX[2*i+1]
			b[k] += 2 * y
		}
	}
	return rows, loss, w, b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func built(t *testing.T, m Model) *Set {
	t.Helper()
	s, err := Build(m, optim.DefaultAdamW)
	check(t, err)
	return s
}

// tensor is a graph's input or output in a test.
type tensor struct {
	values []float32
	dims   []int64
}

// runGraph runs a graph and fills its outputs. An output without dimensions is a scalar.
func runGraph(t *testing.T, model []byte, in, out map[string]tensor) {
	t.Helper()
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1, Training: true})
	check(t, err)
	defer s.Close()
	b, err := s.NewBinding()
	check(t, err)
	defer b.Close()
	for name, x := range in {
		check(t, b.Floats(name, x.values, x.dims...))
	}
	for name, x := range out {
		if x.dims != nil {
			check(t, b.OutputFloats(name, x.values, x.dims...))
			continue
		}
		loss, err := runtime.NewScalar[float32]()
		check(t, err)
		defer loss.Close()
		check(t, b.Output(name, &loss.Tensor))
		defer func() { x.values[0] = loss.Value() }()
	}
	check(t, b.Run())
}

func parameters() map[string]tensor {
	return map[string]tensor{"w": {valueW, []int64{2, 2}}, "b": {valueB, []int64{2}}}
}

func with(in map[string]tensor, name string, values []float32, dims ...int64) map[string]tensor {
	in[name] = tensor{values, dims}
	return in
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-4*math.Max(1, math.Abs(float64(want[i]))) {
			t.Errorf("%s: %v, want %v", what, got, want)
			return
		}
	}
}

// The training graph computes loss and gradients, the eval graph the same loss. The optimizer's graphs and the layout are
// there. LossScale multiplies the gradients of a scaled model, but not its loss.
func TestBuild(t *testing.T) {
	_, loss, w, b := expected()
	for _, scale := range []float32{0, 8} {
		m := linear()
		m.Scaled = scale > 0
		s := built(t, m)
		in := with(parameters(), "x", inputX, 3, 2)
		got := map[string]tensor{LossOutput: {make([]float32, 1), nil}}
		runGraph(t, s.Eval, in, got)
		near(t, "the eval graph's loss", got[LossOutput].values, []float32{loss})
		factor := float32(1)
		if s.Scaled {
			in, factor = with(in, LossScale, []float32{scale}, 1), scale
		}
		got["w"+GradientSuffix], got["b"+GradientSuffix] = tensor{make([]float32, 4), []int64{2, 2}}, tensor{make([]float32, 2), []int64{2}}
		runGraph(t, s.Training, in, got)
		near(t, "the loss", got[LossOutput].values, []float32{loss})
		near(t, "w's gradient", got["w"+GradientSuffix].values, scaled(w, factor))
		near(t, "b's gradient", got["b"+GradientSuffix].values, scaled(b, factor))
		if s.Chunks != nil || s.Dropout != nil && s.Dropout.TableSize != 0 || s.Layout.Decayed != 64 || s.Layout.Total != 128 {
			t.Errorf("chunks %v, dropout %v, layout %+v", s.Chunks, s.Dropout, s.Layout)
		}
		for name, graph := range map[string][]byte{OptimizerFile: s.Optimizer, NormFile: s.Norm, AccumulationFile: s.Accumulation} {
			if len(graph) == 0 {
				t.Errorf("no %s", name)
			}
		}
	}
}

func scaled(x []float32, by float32) []float32 {
	out := make([]float32, len(x))
	for i := range x {
		out[i] = x[i] * by
	}
	return out
}

// The three graphs of Chunks, one after the other, compute the same as the training graph.
func TestChunks(t *testing.T) {
	rows, loss, w, b := expected()
	m := linear()
	m.Chunked = true
	c := built(t, m).Chunks
	if c.Rows != "rows" || len(c.Width) != 1 || c.Width[0] != 2 {
		t.Fatalf("rows %q of width %v", c.Rows, c.Width)
	}
	encoded := tensor{make([]float32, 6), []int64{3, 2}}
	runGraph(t, c.Encode, with(parameters(), "x", inputX, 3, 2), map[string]tensor{EncodedValue: encoded})
	near(t, "the rows", encoded.values, rows)
	seed, got := tensor{make([]float32, 6), []int64{3, 2}}, tensor{make([]float32, 1), nil}
	runGraph(t, c.Loss, map[string]tensor{EncodedValue: encoded}, map[string]tensor{LossOutput: got, EncodedValue + GradientSuffix: seed})
	near(t, "the loss", got.values, []float32{loss})
	near(t, "the rows' gradient", seed.values, scaled(rows, 2))
	dw, db := make([]float32, 4), make([]float32, 2)
	for i := int64(0); i < 3; i++ { // a chunk of each row; gradients add up
		pw, pb := tensor{make([]float32, 4), []int64{2, 2}}, tensor{make([]float32, 2), []int64{2}}
		in := with(parameters(), "x", inputX[2*i:2*i+2], 1, 2)
		runGraph(t, c.Backward, with(in, EncodedValue+GradientSuffix, seed.values[2*i:2*i+2], 1, 2),
			map[string]tensor{"w" + GradientSuffix: pw, "b" + GradientSuffix: pb})
		for k := range dw {
			dw[k] += pw.values[k]
		}
		for k := range db {
			db[k] += pb.values[k]
		}
	}
	near(t, "w's gradient", dw, w)
	near(t, "b's gradient", db, b)
}

// Build returns an error that names what cannot be trained.
func TestBuildErrors(t *testing.T) {
	for want, change := range map[string]func(m *Model){
		`the loss does not depend on the parameter "idle"`: func(m *Model) {
			m.Params = append(m.Params, flat.Param{Name: "idle", Dims: []int64{2}})
		},
		`building a graph of linear: graph linear training: the model has no parameter "none"`: func(m *Model) {
			m.Encode = func(g *onnx.Graph, param func(string) *onnx.Value, _ *dropout.Graph) *onnx.Value {
				return param("none")
			}
		},
		`two parameters named "w"`: func(m *Model) { m.Params = append(m.Params, m.Params[0]) },
		"encoded rows of shape [2, 2]": func(m *Model) {
			m.Chunked = true
			m.Encode = func(g *onnx.Graph, param func(string) *onnx.Value, _ *dropout.Graph) *onnx.Value {
				return g.Add(param("w"), param("b"))
			}
		},
	} {
		m := linear()
		change(&m)
		if _, err := Build(m, optim.DefaultAdamW); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A probe has one value for each node that computes floats, in their order. From the first node that is not finite on, the
// values are NaN.
func TestProbe(t *testing.T) {
	m := linear()
	m.Loss = func(g *onnx.Graph, y *onnx.Value) *onnx.Value { // exp of a large row overflows
		defer g.Scope("loss")()
		return g.ReduceSum(g.Exp(y), false)
	}
	s := built(t, m)
	p, err := s.Probe(TrainingFile)
	check(t, err)
	for _, c := range []struct {
		by   float32
		want string
	}{{0.1, ""}, {100, "loss/Exp"}} {
		flags := tensor{make([]float32, len(p.Nodes)), []int64{int64(len(p.Nodes))}}
		runGraph(t, p.Model, with(parameters(), "x", scaled(inputX, c.by), 3, 2), map[string]tensor{FiniteOutput: flags})
		first := ""
		for i := range p.Nodes {
			if flags.values[i] != 0 && first == "" {
				first = p.Nodes[i]
			}
		}
		if first != c.want {
			t.Errorf("times %g: the first of %v that overflows is %q, want %q", c.by, p.Nodes, first, c.want)
		}
	}
	if _, err := s.Probe(OptimizerFile); err == nil || !strings.Contains(err.Error(), OptimizerFile+" has no probe") {
		t.Errorf("%v", err)
	}
}

// Write writes all graphs, those of Chunks only if there are any, with the bytes that are in memory.
func TestWrite(t *testing.T) {
	m := linear()
	for _, chunked := range []bool{false, true} {
		m.Chunked = chunked
		s, dir := built(t, m), filepath.Join(t.TempDir(), "a", "b")
		check(t, s.Write(dir))
		want := map[string][]byte{TrainingFile: s.Training, EvalFile: s.Eval, OptimizerFile: s.Optimizer, NormFile: s.Norm, AccumulationFile: s.Accumulation}
		if chunked {
			want[EncodeFile], want[LossFile], want[BackwardFile] = s.Chunks.Encode, s.Chunks.Loss, s.Chunks.Backward
		}
		entries, err := os.ReadDir(dir)
		check(t, err)
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil || string(b) != string(want[e.Name()]) {
				t.Errorf("%s differs from the graph in memory (%v)", e.Name(), err)
			}
		}
		if len(entries) != len(want) {
			t.Errorf("chunked %v: %v", chunked, entries)
		}
	}
	if err := built(t, m).Write(filepath.Join(os.Args[0], "x")); err == nil {
		t.Error("wrote below a file")
	}
}

// The same model gives the same bytes, so that a resumed run and a new one have the same files.
func TestBuildIsDeterministic(t *testing.T) {
	m := linear()
	m.Chunked = true
	a, b := built(t, m), built(t, m)
	if fmt.Sprintf("%x", a.Training) != fmt.Sprintf("%x", b.Training) || string(a.Chunks.Backward) != string(b.Chunks.Backward) {
		t.Error("two builds differ")
	}
}
