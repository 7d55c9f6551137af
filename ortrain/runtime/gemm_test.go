package runtime_test

import (
	"fmt"
	"testing"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// BenchmarkGemm measures matrix products in the shapes of all-MiniLM-L6-v2's linear layers on a batch of 3,500 tokens. They take
// most of the time of a training step, and so limit its speed.
func BenchmarkGemm(b *testing.B) {
	const tokens = 3500
	for _, s := range []struct {
		name            string
		rows, in, out   int64
		transA, transB  bool
		firstDims, next []int64
	}{
		{name: "forward", rows: tokens, in: 384, out: 1536, transB: true, firstDims: []int64{tokens, 384}, next: []int64{1536, 384}},
		{name: "input gradient", rows: tokens, in: 1536, out: 384, firstDims: []int64{tokens, 1536}, next: []int64{1536, 384}},
		{name: "weight gradient", rows: 1536, in: tokens, out: 384, transA: true, firstDims: []int64{tokens, 1536}, next: []int64{tokens, 384}},
	} {
		b.Run(s.name, func(b *testing.B) {
			g := onnx.NewGraph("gemm")
			x, y := g.Input("x", onnx.Float32, onnx.Dims(s.firstDims...)...), g.Input("y", onnx.Float32, onnx.Dims(s.next...)...)
			g.Output("z", g.Gemm(x, y, nil, onnx.GemmAttrs{TransA: s.transA, TransB: s.transB}))
			run(b, g, map[string][]int64{"x": s.firstDims, "y": s.next}, []int64{s.rows, s.out})
			flops := 2 * float64(s.rows*s.in*s.out)
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// run measures a graph with one output z.
func run(b *testing.B, g *onnx.Graph, inputs map[string][]int64, output []int64) {
	model, err := g.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	s, err := runtime.NewSession(model, runtime.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bind, err := s.NewBinding()
	if err != nil {
		b.Fatal(err)
	}
	defer bind.Close()
	filled := func(dims []int64) []float32 {
		x := make([]float32, onnx.Elements(dims))
		for i := range x {
			x[i] = float32(i%17) / 17
		}
		return x
	}
	for name, dims := range inputs {
		if err := bind.Floats(name, filled(dims), dims...); err != nil {
			b.Fatal(fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := bind.OutputFloats("z", filled(output), output...); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := bind.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
