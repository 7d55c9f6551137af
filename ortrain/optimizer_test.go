package ortrain

import (
	"fmt"
	"testing"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// vectorModel has parameters of n elements, half of them with weight decay, and a loss that reads them.
func vectorModel(n int64) artifact.Model {
	return artifact.Model{
		Name:   "vector",
		Params: []flat.Param{{Name: "a", Dims: []int64{n / 2}, Decay: true}, {Name: "b", Dims: []int64{n / 2}}},
		Loss:   func(_ *onnx.Graph, loss *onnx.Value) *onnx.Value { return loss },
		Encode: func(g *onnx.Graph, param func(string) *onnx.Value, _ *dropout.Graph) *onnx.Value {
			return g.ReduceSum(g.Mul(param("a"), param("b")), false)
		},
	}
}

// Steps of one and of several micro-batches by turns, as a reranker's rows make them, do not leak native memory.
func TestStepsKeepNoTensors(t *testing.T) {
	set, err := artifact.Build(vectorModel(1000), optim.DefaultAdamW)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.OpenTensors()
	tr, err := NewTrainer(set, Config{Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1 << 30}, AdamW: optim.DefaultAdamW})
	if err != nil {
		t.Fatal(err)
	}
	open := int64(0)
	for i := range 60 {
		var batches []*Batch
		for range 1 + i%3 {
			b := NewBatch()
			b.Rows = 1
			batches = append(batches, b)
		}
		if _, err := tr.Step(batches); err != nil {
			t.Fatal(err)
		}
		switch now := runtime.OpenTensors(); {
		case i < 3:
			open = now
		case now != open:
			t.Fatalf("step %d: %d tensors are open, %d were after the third", i+1, now, open)
		}
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if after := runtime.OpenTensors(); after != before {
		t.Errorf("%d tensors are left open", after-before)
	}
}

// BenchmarkOptimizer measures one optimizer step, and separately the gradient norm, on all-MiniLM-L6-v2's 22.7 M parameters
// and on bert-base's 102 M. scripts/bench/optimizer.py measures torch's fused AdamW.
func BenchmarkOptimizer(b *testing.B) {
	for _, n := range []int64{22_713_216, 102_267_648} {
		b.Run(fmt.Sprintf("%.0fM", float64(n)/1e6), func(b *testing.B) { benchmarkOptimizer(b, n) })
	}
}

func benchmarkOptimizer(b *testing.B, n int64) {
	set, err := artifact.Build(vectorModel(n), optim.DefaultAdamW)
	if err != nil {
		b.Fatal(err)
	}
	t, err := NewTrainer(set, Config{Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1 << 30}})
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	for i := range t.gradients.Host() {
		t.gradients.Host()[i] = float32(i%7) * 1e-3
		t.parameters.Host()[i] = 1
	}
	for name, f := range map[string]func() error{
		"norm": func() error { _, err := t.optimizer.sumOfSquares(t.gradients); return err },
		"step": func() error { return t.optimizer.apply(t.gradients, t.cfg.AdamW.At(1, 1e-5, 1)) },
	} {
		if err := f(); err != nil { // the first run touches fresh pages
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for i := 0; i < b.N; i++ {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
