package reranker

import (
	"context"
	"errors"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// SampleScorer scores samples by logits.
type SampleScorer struct {
	Scorer *Scorer
	MaxLen int
}

// Score gives each sample's candidates their scores, positives first. The pairs of all samples are scored together, so
// that pairs of like length share a batch. Progress is told in pairs.
func (r SampleScorer) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	var pairs []Pair
	for _, s := range samples {
		for _, q := range s.Query {
			for _, p := range s.Candidates() {
				pairs = append(pairs, Pair{Query: q, Passage: p})
			}
		}
	}
	scores, err := r.Scorer.Score(ctx, pairs, r.MaxLen, func(done int) { progress(done, len(pairs)) })
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for range s.Query {
			out[i], scores = mteb.Best(out[i], scores[:n:n]), scores[n:]
		}
	}
	return out, nil
}

// Score scores samples with the parameters of a run.
func (t *Task) Score(ctx context.Context, parameters []float32, samples []mteb.Sample) (scores [][]float32, err error) {
	s, err := newScorer(t.m, scoring.From(parameters), runtime.Options{Threads: t.c.Threads})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return SampleScorer{s, t.c.MaxLen}.Score(ctx, samples, func(int, int) {})
}
