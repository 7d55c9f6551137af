package reranker

import (
	"context"
	"errors"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
)

// SampleScorer scores samples by logits.
type SampleScorer struct {
	Scorer *Scorer
	MaxLen int
}

// Score implements mteb.Scorer.
func (r SampleScorer) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	c, err := r.Scorer.pairs(r.MaxLen)
	if err != nil {
		return err
	}
	return c.Score(ctx, samples, from, progress, emit)
}

// Score scores samples with the parameters that a trainer has now, where it computes.
func (t *Task) Score(ctx context.Context, run *ortrain.Trainer, samples []mteb.Sample) (scores [][]float32, err error) {
	s, err := newScorer(t.m, run, scoring.Options{Options: run.SessionOptions()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return mteb.ScoreAll(ctx, SampleScorer{s, t.c.MaxLen}, samples)
}
