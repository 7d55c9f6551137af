package kernels_test

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// benchProduct is [m, k] times [k, n], so many times. Its kind is that of testdata/gemm_bench.c.
type benchProduct struct {
	kind           string
	m, k, n, batch int
}

var benchProducts = []benchProduct{
	{"product", 1200, 384, 1152, 1}, {"packed", 1200, 384, 1152, 1},
	{"product", 1200, 384, 1536, 1}, {"packed", 1200, 384, 1536, 1},
	{"product", 1200, 1536, 384, 1}, {"packed", 1200, 1536, 384, 1},
	{"product", 4096, 768, 3072, 1}, {"packed", 4096, 768, 3072, 1},
	{"product", 4096, 3072, 768, 1}, {"packed", 4096, 3072, 768, 1},
	{"transposed", 1536, 1200, 384, 1}, {"gradient", 1200, 384, 1536, 1}, {"gradient", 4096, 768, 3072, 1},
	{"product", 128, 32, 128, 768}, {"product", 128, 128, 32, 768},
}

// BenchmarkGemm measures the units that this CPU has, at the shapes of MiniLM and of BERT's base size, and beside them the same products in
// float32 by ONNX Runtime: bf16 pays on a machine where a unit's rows are faster than those of float32.
//
//	go test -run '^$' -bench Gemm ./ortrain/kernels
func BenchmarkGemm(b *testing.B) {
	program := compile(b, "gemm_bench.c", gemmSources, "-O2")
	for _, p := range benchProducts {
		b.Run(p.name("float32"), func(b *testing.B) { p.report(b, p.inFloat32(b)) })
		for _, unit := range kernels.Units {
			if unit.Check() == nil {
				b.Run(p.name(string(unit)), func(b *testing.B) { p.report(b, p.onUnit(b, program, unit)) })
			}
		}
	}
}

func (p benchProduct) name(how string) string {
	return fmt.Sprintf("%s/%dx%dx%dx%d/%s", p.kind, p.batch, p.m, p.k, p.n, how)
}

func (p benchProduct) report(b *testing.B, seconds float64) {
	operations := 2 * float64(p.m) * float64(p.k) * float64(p.n) * float64(p.batch)
	if p.kind == "gradient" {
		operations *= 2
	}
	b.ReportMetric(operations/seconds/1e9, "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

// onUnit returns the seconds of a product in bfloat16.
func (p benchProduct) onUnit(b *testing.B, program string, unit kernels.Unit) float64 {
	arguments := []string{string(unit), p.kind}
	for _, n := range []int{p.m, p.k, p.n, p.batch, goruntime.NumCPU(), b.N} {
		arguments = append(arguments, strconv.Itoa(n))
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(runProgram(b, program, arguments...)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return seconds
}

// inFloat32 returns the seconds of a product by ONNX Runtime's own operators.
func (p benchProduct) inFloat32(b *testing.B) float64 {
	if err := runtime.Load(""); err != nil {
		b.Skipf("no float32 to compare with: %v", err)
	}
	m, k, n := int64(p.m), int64(p.k), int64(p.n)
	g := onnx.NewGraph("gemm")
	inputs, outputs := map[string][]int64{}, map[string][]int64{}
	input := func(name string, dims ...int64) *onnx.Value {
		inputs[name] = dims
		return g.Input(name, onnx.Float32, onnx.Dims(dims...)...)
	}
	output := func(name string, v *onnx.Value, dims ...int64) {
		outputs[name] = dims
		g.Output(name, v)
	}
	switch p.kind {
	case "packed": // ONNX Runtime packs constants when it opens the session
		output("c", g.MatMul(input("a", m, k), g.Weight("b", onnx.Floats(benchValues(k*n), k, n))), m, n)
	case "transposed":
		output("c", g.Gemm(input("a", k, m), input("b", k, n), nil, onnx.GemmAttrs{TransA: true}), m, n)
	case "gradient":
		x, w, dy := input("x", m, k), input("w", k, n), input("dy", m, n)
		output("dx", g.Gemm(dy, w, nil, onnx.GemmAttrs{TransB: true}), m, k)
		output("dw", g.Gemm(x, dy, nil, onnx.GemmAttrs{TransA: true}), k, n)
		output("db", g.ReduceSum(dy, false, 0), n)
	default:
		left, right, result := []int64{m, k}, []int64{k, n}, []int64{m, n}
		if batch := int64(p.batch); batch > 1 {
			left, right, result = []int64{batch, m, k}, []int64{batch, k, n}, []int64{batch, m, n}
		}
		output("c", g.MatMul(input("a", left...), input("b", right...)), result...)
	}
	return secondsOfRuns(b, g, inputs, outputs)
}

func benchValues(n int64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(i%251)/251 - 0.5
	}
	return out
}

// secondsOfRuns returns the seconds of one run of a graph.
func secondsOfRuns(b *testing.B, g *onnx.Graph, inputs, outputs map[string][]int64) float64 {
	file, err := g.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	graph := bind(b, file, runtime.Options{})
	for name, dims := range inputs {
		err = errors.Join(err, graph.Floats(name, benchValues(onnx.Elements(dims)), dims...))
	}
	for name, dims := range outputs {
		err = errors.Join(err, graph.OutputFloats(name, make([]float32, onnx.Elements(dims)), dims...))
	}
	if err = errors.Join(err, graph.Run()); err != nil { // the first does not count
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		if err := graph.Run(); err != nil {
			b.Fatal(err)
		}
	}
	return b.Elapsed().Seconds() / float64(b.N)
}
