package runtime_test

import (
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// ONNX Runtime accepts the entry for bfloat16 on Linux arm64. Elsewhere it has no effect; on an arm64 CPU it was never run.
func TestARM64Products(t *testing.T) {
	g := onnx.NewGraph("product")
	x := g.Input("x", onnx.Float32, onnx.FixedDim(2), onnx.FixedDim(2))
	g.Output("y", g.MatMul(x, x))
	model, err := g.Bytes()
	check(t, err)
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1, BF16: kernels.ARM64})
	check(t, err)
	defer s.Close()
	b, err := s.NewBinding()
	check(t, err)
	defer b.Close()
	y := make([]float32, 4)
	check(t, b.Floats("x", []float32{1, 2, 3, 4}, 2, 2))
	check(t, b.OutputFloats("y", y, 2, 2))
	check(t, b.Run())
	if !slices.Equal(y, []float32{7, 10, 15, 22}) { // exact in bfloat16 too
		t.Error(y)
	}
}
