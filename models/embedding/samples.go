package embedding

import (
	"context"
	"errors"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// Scorer scores samples by the cosine of vectors.
type Scorer struct {
	Encoder                    *Encoder
	QueryMaxLen, PassageMaxLen int
}

// Score gives each sample's candidates their scores, positives first; each text is encoded once. Progress is told in
// texts.
func (e Scorer) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	c := e.Encoder.m.Config
	queries, passages := mteb.Texts(samples, c.Prompt(true), c.Prompt(false))
	total := len(queries) + len(passages)
	q, err := e.Encoder.Encode(ctx, queries, e.QueryMaxLen, func(done int) { progress(done, total) })
	if err != nil {
		return nil, err
	}
	p, err := e.Encoder.Encode(ctx, passages, e.PassageMaxLen, func(done int) { progress(len(queries)+done, total) })
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for _, query := range q[:len(s.Query)] {
			scores := make([]float32, n)
			for j := range scores {
				scores[j] = dot(query, p[j])
			}
			out[i] = mteb.Best(out[i], scores)
		}
		q, p = q[len(s.Query):], p[n:]
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

// Score scores samples with the parameters of a run.
func (t *Task) Score(ctx context.Context, parameters []float32, samples []mteb.Sample) (scores [][]float32, err error) {
	e, err := newEncoder(t.m, scoring.From(parameters), runtime.Options{Threads: t.c.Threads})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return Scorer{e, t.c.QueryMaxLen, t.c.PassageMaxLen}.Score(ctx, samples, func(int, int) {})
}
