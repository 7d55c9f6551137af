package colbert

import (
	"context"
	"errors"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
)

// SampleScorer scores samples by MaxSim.
type SampleScorer struct {
	Scorer                     *Scorer
	QueryMaxLen, PassageMaxLen int
}

// Score implements mteb.Scorer.
func (c SampleScorer) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	m := c.Scorer.m
	for what, n := range map[string]int{"the maximal length of queries": c.QueryMaxLen, "the maximal length of passages": c.PassageMaxLen} {
		if err := m.checkLengths(what, n); err != nil {
			return err
		}
	}
	return c.biEncoder().Score(ctx, samples, from, progress, emit)
}

func (c SampleScorer) biEncoder() scoring.BiEncoder[Text] {
	return scoring.BiEncoder[Text]{
		Rows: func(x prompt.Text) ([]encoder.Row, error) {
			if x.Query {
				return c.Scorer.m.rows(x, c.QueryMaxLen, false)
			}
			return c.Scorer.m.rows(x, c.PassageMaxLen, c.Scorer.windows)
		},
		Forward: c.Scorer.forward, Block: scoring.TokenVectorBlock,
		Similarity: func(query Text, passages []Text) ([]float32, error) {
			return c.Scorer.Score(query, passages, c.PassageMaxLen)
		},
	}
}

// Score scores samples with the parameters that a trainer has now, where it computes.
func (t *Task) Score(ctx context.Context, run *ortrain.Trainer, samples []mteb.Sample) (scores [][]float32, err error) {
	s, err := newScorer(t.m, run, scoring.Options{Options: run.SessionOptions()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return mteb.ScoreAll(ctx, SampleScorer{s, t.c.QueryMaxLen, t.c.PassageMaxLen}, samples)
}
