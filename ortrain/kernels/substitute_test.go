package kernels_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// A layer with every operator that has a kernel: attention over rows × length tokens, a feed-forward, norms. Its sizes are odd.
const (
	rows, length, heads, size = 3, 7, 2, 5
	hidden, wide              = heads * size, 37
)

var params = map[string][]int64{
	"qkv": {3 * hidden, hidden}, "qkv.bias": {3 * hidden}, "up": {wide, hidden}, "up.bias": {wide}, "down": {hidden, wide}, "down.bias": {hidden},
	"norm": {hidden}, "norm.bias": {hidden},
}

var names = []string{"qkv", "qkv.bias", "up", "up.bias", "down", "down.bias", "norm", "norm.bias"}

// layer returns the graph of a loss, which is the first output, and of the gradients of x and all parameters.
func layer(t *testing.T) []byte {
	t.Helper()
	g := onnx.NewGraph("layer")
	x := g.Input("x", onnx.Float32, onnx.Dims(rows*length, hidden)...)
	w := map[string]*onnx.Value{}
	wrt := []*onnx.Value{x}
	for _, n := range names {
		w[n] = g.Input(n, onnx.Float32, onnx.Dims(params[n]...)...)
		wrt = append(wrt, w[n])
	}
	linear := func(x *onnx.Value, name string) *onnx.Value {
		return g.AllowBF16(g.Gemm(x, w[name], w[name+".bias"], onnx.GemmAttrs{TransB: true}))
	}
	var parts [3]*onnx.Value
	for i, part := range g.Split(linear(x, "qkv"), 1, hidden, hidden, hidden) {
		parts[i] = g.Transpose(g.ReshapeTo(part, rows, length, heads, size), 0, 2, 1, 3)
	}
	scores := g.AllowBF16(g.FusedMatMul(parts[0], parts[1], onnx.FusedMatMulAttrs{Alpha: 0.4, TransB: true}))
	seen := g.AllowBF16(g.FusedMatMul(g.Softmax(scores, -1), parts[2], onnx.FusedMatMulAttrs{}))
	y := g.Add(x, g.ReshapeTo(g.Transpose(seen, 0, 2, 1, 3), rows*length, hidden))
	y = g.LayerNormalization(y, w["norm"], w["norm.bias"], 1e-5)
	y = g.Add(y, linear(g.Gelu(linear(y, "up")), "down"))
	loss := g.ReduceSum(g.Mul(y, g.Tanh(y)), false)
	grads, err := grad.Gradients(g, loss, wrt)
	if err != nil {
		t.Fatal(err)
	}
	g.Output("loss", g.ReshapeTo(loss, 1))
	for i, d := range grads {
		g.Output(wrt[i].Name+".grad", d)
	}
	g.Prune()
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return model
}

// session is an open graph of layer, with its inputs and outputs.
type session struct {
	binding *runtime.Binding
	inputs  map[string][]float32
	outputs map[string][]float32
}

func open(t *testing.T, model []byte, o runtime.Options) *session {
	t.Helper()
	b := bind(t, model, o)
	out := &session{b, map[string][]float32{}, map[string][]float32{"loss": make([]float32, 1)}}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(b.OutputFloats("loss", out.outputs["loss"], 1))
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range append([]string{"x"}, names...) {
		dims := params[n]
		if n == "x" {
			dims = []int64{rows * length, hidden}
		}
		values := make([]float32, onnx.Elements(dims))
		for i := range values {
			values[i] = float32(0.3 * random.NormFloat64())
		}
		out.inputs[n], out.outputs[n+".grad"] = values, make([]float32, len(values))
		check(b.Floats(n, values, dims...))
		check(b.OutputFloats(n+".grad", out.outputs[n+".grad"], dims...))
	}
	return out
}

func (s *session) run(t *testing.T) {
	t.Helper()
	if err := s.binding.Run(); err != nil {
		t.Fatal(err)
	}
}

// difference is the largest difference of two sessions' outputs, relative to the largest value of each output.
func (s *session) difference(other *session) (worst float64, where string) {
	for name, a := range s.outputs {
		largest, d := 0.0, 0.0
		for i, x := range a {
			largest = max(largest, math.Abs(float64(x)))
			d = max(d, math.Abs(float64(x-other.outputs[name][i])))
		}
		if d /= largest; d > worst || math.IsNaN(d) {
			worst, where = d, name
		}
	}
	return worst, where
}

// units are None and the units of this CPU.
func units() []kernels.Unit {
	have := []kernels.Unit{kernels.None}
	for _, u := range kernels.Units {
		if u.Check() == nil {
			have = append(have, u)
		}
	}
	return have
}

func TestKernelsEqualStockOperators(t *testing.T) {
	model := layer(t)
	stock := open(t, model, runtime.Options{StockOperators: true, Training: true})
	stock.run(t)
	for _, unit := range units() {
		for _, threads := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s %d", unit, threads), func(t *testing.T) {
				s := open(t, model, runtime.Options{BF16: unit, Threads: threads, Training: true})
				s.run(t)
				bound := 2e-6
				if unit != kernels.None {
					bound = 0.03 // bfloat16 has 8 bits of mantissa
				}
				if d, where := s.difference(stock); !(d <= bound) {
					t.Errorf("%s differs by %.2g of its largest value, want at most %g", where, d, bound)
				} else if unit != kernels.None && d < 1e-5 {
					t.Errorf("no output differs by more than %.2g: is anything computed in bfloat16?", d)
				}
			})
		}
	}
}

func TestKernelsOfALayer(t *testing.T) {
	model := layer(t)
	for _, c := range []struct {
		unit kernels.Unit
		want map[string]int
	}{
		{kernels.None, map[string]int{"ActivationGradient": 1, "LayerNormGradient": 1, "SoftmaxGradient": 1, "Gemm": 12}},
		{kernels.Portable, map[string]int{
			"ActivationGradient": 1, "LayerNormGradient": 1, "SoftmaxGradient": 1, "LinearGradient": 3, "Product": 3 + 2 + 4,
		}},
	} {
		got := operators(t, substitute(t, model, c.unit).Model)
		for _, op := range []string{"ActivationGradient", "LayerNormGradient", "SoftmaxGradient", "LinearGradient", "Product", "Erf", "FusedMatMul"} {
			if op == "FusedMatMul" && c.unit == kernels.None {
				continue
			}
			if got[op] != c.want[op] {
				t.Errorf("unit %q: %d nodes %s, want %d (all: %v)", c.unit, got[op], op, c.want[op], got)
			}
		}
	}
}

// A weight is packed again only after its owner called Changed. The test overwrites it in between. Another owner's session does not
// notice.
func TestWeightsArePackedOnce(t *testing.T) {
	isWeight := func(name string) bool { return len(params[name]) == 2 }
	weights, others := runtime.NewWeights(isWeight), runtime.NewWeights(isWeight)
	s := open(t, layer(t), runtime.Options{BF16: kernels.Portable, Weights: weights, Training: true})
	other := open(t, layer(t), runtime.Options{BF16: kernels.Portable, Weights: others, Training: true})
	loss := func(s *session) float32 {
		s.run(t)
		return s.outputs["loss"][0]
	}
	first := loss(s)
	if got := loss(other); got != first {
		t.Errorf("two sessions give %g and %g", first, got)
	}
	clear(s.inputs["up"])
	clear(other.inputs["up"])
	if got := loss(s); got != first {
		t.Errorf("the loss changes from %g to %g before Changed", first, got)
	}
	weights.Changed()
	if got := loss(s); got == first {
		t.Errorf("the loss stays %g after Changed", got)
	}
	if got := loss(other); got != first {
		t.Errorf("the loss of another owner changes from %g to %g", first, got)
	}
	others.Changed()
	loss(other)
	fresh := open(t, layer(t), runtime.Options{BF16: kernels.Portable, Training: true})
	clear(fresh.inputs["up"])
	fresh.run(t)
	for _, s := range []*session{s, other} {
		if d, where := s.difference(fresh); d != 0 {
			t.Errorf("%s differs by %g from a session that packs in each run", where, d)
		}
	}
}

// What the kernel Product does not compute stays a stock operator, and gives the same numbers.
func TestProductsThatStay(t *testing.T) {
	floats := func(seed uint64, n int64) []float32 {
		random, out := rand.New(rand.NewPCG(seed, 2)), make([]float32, n)
		for i := range out {
			out[i] = float32(random.NormFloat64())
		}
		return out
	}
	for name, c := range map[string]struct {
		build func(g *onnx.Graph, x *onnx.Value) *onnx.Value
		dims  []int64
		out   []int64
		stays bool
	}{
		"a scaled third input": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			w, c := g.Const(onnx.Floats(floats(1, 20), 4, 5)), g.Const(onnx.Floats(floats(2, 5), 5))
			return g.Op("", "Gemm", []*onnx.Value{x, w, c}, onnx.Attrs{"beta": float32(0.5)}, 1)[0]
		}, []int64{3, 4}, []int64{3, 5}, true},
		"a batch of constants": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			return g.FusedMatMul(x, g.Const(onnx.Floats(floats(1, 40), 2, 4, 5)), onnx.FusedMatMulAttrs{})
		}, []int64{2, 3, 4}, []int64{2, 3, 5}, false},
		"a matrix as third input": {func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			w, c := g.Const(onnx.Floats(floats(1, 20), 4, 5)), g.Const(onnx.Floats(floats(2, 15), 3, 5))
			return g.Gemm(x, w, c, onnx.GemmAttrs{})
		}, []int64{3, 4}, []int64{3, 5}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := onnx.NewGraph("product")
			g.Output("y", g.AllowBF16(c.build(g, g.Input("x", onnx.Float32, onnx.Dims(c.dims...)...))))
			model, err := g.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			replaced := operators(t, substitute(t, model, kernels.Portable).Model)
			if replaced["Product"]+replaced["PackedProduct"] == 1 == c.stays {
				t.Errorf("operators %v", replaced)
			}
			want, got := make([]float32, onnx.Elements(c.out)), make([]float32, onnx.Elements(c.out))
			x := floats(3, onnx.Elements(c.dims))
			for y, o := range map[*[]float32]runtime.Options{&want: {StockOperators: true}, &got: {BF16: kernels.Portable}} {
				b := bind(t, model, o)
				if err := errors.Join(b.Floats("x", x, c.dims...), b.OutputFloats("y", *y, c.out...), b.Run()); err != nil {
					t.Fatal(err)
				}
			}
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 0.05 {
					t.Errorf("element %d: %g, stock %g", i, got[i], want[i])
				}
			}
		})
	}
}

// A kernel that would read what is computed only after its place is left out.
func TestKernelsThatComeTooEarly(t *testing.T) {
	g := onnx.NewGraph("order")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(4))
	first := g.Sigmoid(x)
	inner := g.Mul(x, first)
	g.Kernel(onnx.Kernel{Op: "Activation", Inputs: []*onnx.Value{x}, Outputs: []*onnx.Value{inner}, Attrs: onnx.Attrs{"kind": int64(2)}})
	y := g.Add(inner, x)
	g.Kernel(onnx.Kernel{Op: "RMSNorm", Inputs: []*onnx.Value{inner, x}, Outputs: []*onnx.Value{y, first}})
	g.Output("y", y)
	g.Output("z", first)
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got := operators(t, substitute(t, model, kernels.None).Model); got["RMSNorm"] != 0 || got["Activation"] != 1 {
		t.Errorf("operators %v", got)
	}
}

// The first runs of a session may be concurrent: its constant weights are packed once, and all runs give the same bits.
func TestConcurrentFirstRuns(t *testing.T) {
	const width, runs = 96, 8
	random := rand.New(rand.NewPCG(3, 4))
	values := make([]float32, 3*width*width)
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	g := onnx.NewGraph("stack")
	y := g.Input("x", onnx.Float32, onnx.Dims(width, width)...)
	for i := range 3 {
		w := g.Weight(fmt.Sprint("w", i), onnx.Floats(values[i*width*width:][:width*width], width, width))
		y = g.Tanh(g.AllowBF16(g.Gemm(y, w, nil, onnx.GemmAttrs{TransB: true})))
	}
	g.Output("y", y)
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s, err := runtime.NewSession(model, runtime.Options{BF16: kernels.Portable, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var outputs [runs][]float32
	var errs [runs]error
	var wait sync.WaitGroup
	for i := range runs {
		outputs[i] = make([]float32, width*width)
		wait.Go(func() {
			b, err := s.NewBinding()
			if err == nil {
				err = errors.Join(b.Floats("x", values[:width*width], width, width), b.OutputFloats("y", outputs[i], width, width), b.Run(), b.Close())
			}
			errs[i] = err
		})
	}
	wait.Wait()
	for i := range runs {
		if errs[i] != nil || !slices.Equal(outputs[i], outputs[0]) {
			t.Errorf("run %d: %v, or other bits than run 0", i, errs[i])
		}
	}
}

// Memory does not grow with the runs of a session whose products need workspace.
func TestMemoryOfRuns(t *testing.T) {
	s := open(t, layer(t), runtime.Options{BF16: kernels.Portable, Training: true})
	resident := func() int {
		b, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Skip(err)
		}
		var all, pages int
		if _, err := fmt.Sscan(string(b), &all, &pages); err != nil {
			t.Fatal(err)
		}
		return pages * os.Getpagesize()
	}
	for range 200 {
		s.run(t)
	}
	before := resident()
	for range 4000 {
		s.run(t)
	}
	if grown := resident() - before; grown > 16<<20 {
		t.Errorf("4,000 runs took %d MB more", grown>>20)
	}
}

func TestSubstituteLeavesOtherFiles(t *testing.T) {
	g := onnx.NewGraph("stock")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("n"))
	g.Output("y", g.Gelu(x))
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if b := substitute(t, model, kernels.Portable); &b.Model[0] != &model[0] || b.Packed != nil || b.Constants != nil {
		t.Error("a graph without kernels changes")
	}
	if _, err := kernels.Substitute(nil, kernels.Options{}); err == nil || !strings.Contains(err.Error(), "the file has no graph") {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := kernels.Substitute([]byte("no graph"), kernels.Options{}); err == nil || !strings.Contains(err.Error(), "reading the graph") {
		t.Errorf("bytes that are no graph: %v", err)
	}
}

func TestUnits(t *testing.T) {
	if err := kernels.Unit("abacus").Check(); err == nil || !strings.Contains(err.Error(), `no unit "abacus"`) {
		t.Errorf("an unknown unit: %v", err)
	}
	if err := kernels.Portable.Check(); err != nil {
		t.Error(err)
	}
}

// The gradient of a table of rows, such as an embedding's, is one kernel. Its sums have the order of ONNX Runtime's own, to the bit.
func TestGatherGradient(t *testing.T) {
	const tableRows, width, taken = 300, 200, 2000 // several tasks
	g := onnx.NewGraph("gather")
	table := g.Input("table", onnx.Float32, onnx.Dims(tableRows, width)...)
	rows := g.Gather(table, g.Input("indices", onnx.Int64, onnx.Dims(4, taken/4)...), 0)
	loss := g.ReduceSum(g.Mul(rows, g.Tanh(rows)), false)
	grads, err := grad.Gradients(g, loss, []*onnx.Value{table})
	if err != nil {
		t.Fatal(err)
	}
	g.Output("gradient", grads[0])
	g.Prune()
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got := operators(t, substitute(t, model, kernels.None).Model); got["GatherGradient"] != 1 || got["ScatterElements"] != 0 {
		t.Errorf("the operators are %v, want one GatherGradient and no ScatterElements", got)
	}
	random := rand.New(rand.NewPCG(1, 2))
	values, indices := make([]float32, tableRows*width), make([]int64, taken)
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	for i := range indices {
		indices[i] = int64(random.IntN(2*tableRows)-tableRows) / 3 * 2 // repeated, and also from the end
	}
	run := func(o runtime.Options) []float32 {
		b, out := bind(t, model, o), make([]float32, len(values))
		err := errors.Join(b.Floats("table", values, tableRows, width), b.Ints("indices", indices, 4, taken/4), b.OutputFloats("gradient", out, tableRows, width))
		if err := errors.Join(err, b.Run()); err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := run(runtime.Options{StockOperators: true, Training: true})
	for threads := 1; threads <= 3; threads++ {
		if got := run(runtime.Options{Threads: threads, Training: true}); !slices.Equal(got, want) {
			t.Errorf("%d threads: another gradient than ONNX Runtime's", threads)
		}
	}
}
