package retrieval

import (
	"math/rand/v2"
	"os"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// BenchmarkMaxSim compares 64 queries of 32 tokens with 512 passages of 128 tokens, by the ColBERT model in the folder COLBERT.
func BenchmarkMaxSim(b *testing.B) {
	dir := os.Getenv("COLBERT")
	if dir == "" {
		b.Skip("COLBERT is not set")
	}
	m, err := retriever.Open(b.Context(), dir, retriever.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	e, err := m.Embedder()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	text := func(tokens int) retriever.Embedding {
		x := retriever.Embedding{TokenIDs: make([]int64, tokens), Values: make([]float32, tokens*int(m.Info().Dimension)), Tokens: tokens}
		for i := range x.Values {
			x.Values[i] = rng.Float32() - 0.5
		}
		return x
	}
	var queries, passages []retriever.Embedding
	for range 64 {
		queries = append(queries, text(32))
	}
	for range 512 {
		passages = append(passages, text(128))
	}
	for b.Loop() {
		err := MaxSim{Embedder: e.(retriever.MultiVector)}.compare(b.Context(), queries, passages, func(int, int, float32) {})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*64*512*1e-3/b.Elapsed().Seconds(), "thousand_pairs/s")
}
