package colbert

import (
	"context"
	"errors"

	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// SampleScorer scores samples by MaxSim.
type SampleScorer struct {
	Scorer                     *Scorer
	QueryMaxLen, PassageMaxLen int
}

// chunk is how many samples' token vectors are held at once.
const chunk = 32

// Score gives each sample's candidates their scores, positives first; each text of a chunk of samples is encoded once.
// Progress is told in texts.
func (c SampleScorer) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	total, before := 0, 0
	for _, s := range samples {
		total += len(s.Query) + len(s.Positive) + len(s.Negative)
	}
	var out [][]float32
	for len(samples) > 0 {
		some := samples[:min(chunk, len(samples))]
		scores, err := c.some(ctx, some, func(done int) { progress(before+done, total) })
		if err != nil {
			return nil, err
		}
		for _, s := range some {
			before += len(s.Query) + len(s.Positive) + len(s.Negative)
		}
		out, samples = append(out, scores...), samples[len(some):]
	}
	return out, nil
}

func (c SampleScorer) some(ctx context.Context, samples []mteb.Sample, progress func(done int)) ([][]float32, error) {
	queries, passages := mteb.Texts(samples, "", "")
	q, err := c.Scorer.Queries(ctx, queries, c.QueryMaxLen, progress)
	if err != nil {
		return nil, err
	}
	p, err := c.Scorer.Passages(ctx, passages, c.PassageMaxLen, func(done int) { progress(len(queries) + done) })
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for _, query := range q[:len(s.Query)] {
			scores, err := c.Scorer.Score(query, p[:n], c.PassageMaxLen)
			if err != nil {
				return nil, err
			}
			out[i] = mteb.Best(out[i], scores)
		}
		q, p = q[len(s.Query):], p[n:]
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
	return SampleScorer{s, t.c.QueryMaxLen, t.c.PassageMaxLen}.Score(ctx, samples, func(int, int) {})
}
