package optim_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// weightedSum is a model whose loss is Σ c·x with c from the batch. Its gradient is c.
func weightedSum(sizes ...int64) artifact.Model {
	var params []flat.Param
	for i, n := range sizes {
		params = append(params, flat.Param{Name: string(rune('a' + i)), Dims: []int64{n}, Decay: i%2 == 0})
	}
	return artifact.Model{Name: "linear", Params: params,
		Loss: func(_ *onnx.Graph, loss *onnx.Value) *onnx.Value { return loss },
		Encode: func(g *onnx.Graph, param func(string) *onnx.Value, _ *dropout.Graph) *onnx.Value {
			var loss *onnx.Value
			for _, p := range params {
				term := g.ReduceSum(g.Mul(param(p.Name), g.Input("c."+p.Name, onnx.Float32, onnx.Dims(p.Dims...)...)), false)
				if loss == nil {
					loss = term
				} else {
					loss = g.Add(loss, term)
				}
			}
			return loss
		}}
}

// Twenty steps, in place and over views, equal AdamW computed in float64, with and without weight decay and clipping.
func TestAdamWEqualsTheFormula(t *testing.T) {
	for _, clip := range []float64{0, 0.5} {
		adamw := optim.DefaultAdamW
		adamw.WeightDecay = 0.1
		sizes := []int64{300_001, 5, 64, 270_000}
		set, err := artifact.Build(weightedSum(sizes...), adamw)
		check(t, err)
		schedule := optim.Schedule{Kind: "linear", Peak: 0.01, Warmup: 3, Total: 20}
		tr, err := ortrain.NewTrainer(set, ortrain.Config{Schedule: schedule, AdamW: adamw, MaxGradNorm: clip, Session: runtime.Options{Threads: 2}})
		check(t, err)
		defer tr.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		n := tr.Layout().Total
		start := make([]float32, n)
		p, m, v, g := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range p {
			start[i] = rng.Float32()*2 - 1
			p[i] = float64(start[i])
		}
		check(t, tr.Fill(func(_ *flat.Layout, parameters []float32) error { copy(parameters, start); return nil }))
		for step := 1; step <= 20; step++ {
			b := ortrain.NewBatch()
			b.Rows = 1
			norm := 0.0
			for i, q := range tr.Layout().Params {
				c := make([]float32, q.Size())
				for j := range c {
					c[j] = (rng.Float32()*2 - 1) * 0.01
					g[tr.Layout().Offsets[i]+int64(j)] = float64(c[j])
					norm += float64(c[j]) * float64(c[j])
				}
				b.Float("c."+q.Name, c, q.Size())
			}
			s, err := tr.Step([]*ortrain.Batch{b})
			check(t, err)
			norm = math.Sqrt(norm)
			if math.Abs(s.GradNorm-norm) > 1e-5*norm {
				t.Fatalf("norm %g, want %g", s.GradNorm, norm)
			}
			scale := 1.0
			if clip > 0 {
				scale = min(1, clip/(norm+1e-6))
			}
			lr := schedule.At(step - 1)
			for i := range p {
				decay := 1.0
				if int64(i) < tr.Layout().Decayed {
					decay = 1 - lr*0.1
				}
				x := g[i] * scale
				m[i] = 0.9*m[i] + 0.1*x
				v[i] = 0.999*v[i] + 0.001*x*x
				p[i] = p[i]*decay - lr/(1-math.Pow(0.9, float64(step)))*m[i]/(math.Sqrt(v[i])/math.Sqrt(1-math.Pow(0.999, float64(step)))+1e-8)
			}
		}
		got, err := tr.Parameters()
		check(t, err)
		for i := range p {
			if d := math.Abs(float64(got[i]) - p[i]); d > 5e-6 {
				t.Fatalf("clip %g: element %d is %g, want %g", clip, i, got[i], p[i])
			}
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
