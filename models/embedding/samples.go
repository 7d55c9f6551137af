package embedding

import (
	"context"
	"errors"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
)

// Scorer scores samples by the cosine of vectors.
type Scorer struct {
	Encoder                    *Encoder
	QueryMaxLen, PassageMaxLen int
}

// Score implements mteb.Scorer.
func (e Scorer) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	m := e.Encoder.m
	for what, n := range map[string]int{"the maximal length of queries": e.QueryMaxLen, "the maximal length of passages": e.PassageMaxLen} {
		if err := m.checkLengths(what, n); err != nil {
			return err
		}
	}
	return e.biEncoder().Score(ctx, samples, from, progress, emit)
}

func (e Scorer) biEncoder() scoring.BiEncoder[[]float32] {
	return scoring.BiEncoder[[]float32]{
		Rows: func(x prompt.Text) ([]encoder.Row, error) {
			if x.Query {
				return e.Encoder.m.rows(x, e.QueryMaxLen, false)
			}
			return e.Encoder.m.rows(x, e.PassageMaxLen, e.Encoder.windows)
		},
		Forward: e.Encoder.forward, Similarity: Cosines, Block: scoring.VectorBlock,
	}
}

// Cosines compares a vector of length one with others.
func Cosines(query []float32, passages [][]float32) ([]float32, error) {
	out := make([]float32, len(passages))
	for i, p := range passages {
		out[i] = dot(query, p)
	}
	return out, nil
}

func dot(a, b []float32) float32 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return float32(sum)
}

// Score scores samples with the parameters that a trainer has now, where it computes.
func (t *Task) Score(ctx context.Context, run *ortrain.Trainer, samples []mteb.Sample) (scores [][]float32, err error) {
	e, err := newEncoder(t.m, run, scoring.Options{Options: run.SessionOptions()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return mteb.ScoreAll(ctx, Scorer{e, t.c.QueryMaxLen, t.c.PassageMaxLen}, samples)
}
