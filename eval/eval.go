// Package eval scores models on reranking tasks and shows the results. Which model it is, it does not ask: anything
// that scores samples will do.
package eval

import (
	"context"
	"fmt"
	"time"

	"rag-retrieval-go/mteb"
)

// Scorer gives every candidate of every sample a score, positives first.
type Scorer interface {
	// Score reports progress as texts or pairs done out of a total.
	Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error)
}

// Outcome is a task's result with the scores behind it.
type Outcome struct {
	Result mteb.Result
	Scores [][]float32
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
	return Outcome{mteb.NewResult(t, rule, m, time.Since(begun).Seconds()), scores}, nil
}
