// Package eval scores models on reranking tasks and shows the results. Which model it is, it does not ask: anything
// that scores samples will do.
package eval

import (
	"context"
	"fmt"
	"time"

	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/mteb"
)

// Scorer gives every candidate of every sample a score, positives first.
type Scorer interface {
	// Score reports progress as texts done out of a total.
	Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error)
}

// Embeddings scores by the cosine of a bi-encoder's vectors.
type Embeddings struct {
	Encoder                    *embedding.Encoder
	QueryMaxLen, PassageMaxLen int
}

// Score encodes each text once.
func (e Embeddings) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	var queries, passages []string
	for _, s := range samples {
		queries = append(queries, s.Query...)
		passages = append(passages, s.Candidates()...)
	}
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
		out[i] = bestCosines(q[:len(s.Query)], p[:n])
		q, p = q[len(s.Query):], p[n:]
	}
	return out, nil
}

// bestCosines gives each passage its largest cosine with one of the sub-queries.
func bestCosines(queries, passages [][]float32) []float32 {
	out := make([]float32, len(passages))
	for i, p := range passages {
		for j, q := range queries {
			if s := dot(q, p); j == 0 || s > out[i] {
				out[i] = s
			}
		}
	}
	return out
}

func dot(a, b []float32) float32 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return float32(sum)
}

// Outcome is a task's result with the scores behind it.
type Outcome struct {
	Result mteb.Result
	Scores [][]float32
	Ties   int
}

// Run scores one task.
func Run(ctx context.Context, s Scorer, t mteb.Task, rule mteb.Rule, progress func(done, total int)) (Outcome, error) {
	begun := time.Now()
	scores, err := s.Score(ctx, t.Samples, progress)
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	m, err := mteb.Evaluate(rule, t.Samples, scores)
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	return Outcome{
		Result: mteb.Result{
			Task: t.Name, Rule: rule, Queries: len(t.Samples), MAP: m.MAP, MRR: m.MRR,
			Seconds: time.Since(begun).Seconds(),
		},
		Scores: scores, Ties: m.Ties,
	}, nil
}
