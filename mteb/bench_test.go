package mteb

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkEvaluate computes the metrics of 1,000 queries with 1,000 candidates each, of which ten are relevant.
func BenchmarkEvaluate(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	samples, scores := make([]Sample, 1000), make([][]float32, 1000)
	for i := range samples {
		samples[i] = Sample{Positive: make([]string, 10), Negative: make([]string, 990)}
		for range 1000 {
			scores[i] = append(scores[i], rng.Float32())
		}
	}
	for _, rule := range Rules {
		b.Run(string(rule), func(b *testing.B) {
			for b.Loop() {
				if _, err := Evaluate(rule, samples, scores); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
