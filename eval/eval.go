// Package eval scores models on reranking tasks and shows the results. Which model it is, it does not ask: anything
// that scores samples will do.
package eval

import (
	"context"
	"fmt"
	"time"

	"rag-retrieval-go/mteb"
)

// Outcome is a task's result with the scores behind it.
type Outcome struct {
	Result mteb.Result
	Scores [][]float32
}

// Run scores one task. Scores that the journal has from a run that was stopped are taken from it; it may be nil.
func Run(ctx context.Context, s mteb.Scorer, t mteb.Task, rule mteb.Rule, j *Journal, progress func(done, total int)) (Outcome, error) {
	begun := time.Now()
	scores := j.Done()
	err := s.Score(ctx, t.Samples, len(scores), progress, func(x []float32) error {
		scores = append(scores, x)
		j.Add(x)
		return nil
	})
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	m, err := mteb.Evaluate(rule, t.Samples, scores)
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	return Outcome{mteb.NewResult(t, rule, m, time.Since(begun).Seconds()), scores}, nil
}

// Spread picks at most n of a task's samples, evenly over the task: their numbers.
func Spread(samples, n int) []int {
	n = min(n, samples)
	out := make([]int, n)
	for i := range out {
		out[i] = i * samples / n
	}
	return out
}

// CheckInt8 compares the scores of a fast scorer with those that an exact one gives to some samples.
func CheckInt8(ctx context.Context, exact mteb.Scorer, t mteb.Task, rule mteb.Rule, scores [][]float32, picked []int) (mteb.Exactness, error) {
	var some []mteb.Sample
	var fast [][]float32
	for _, i := range picked {
		some, fast = append(some, t.Samples[i]), append(fast, scores[i])
	}
	slow, err := mteb.ScoreAll(ctx, exact, some)
	if err != nil {
		return mteb.Exactness{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	a, err := mteb.Evaluate(rule, some, fast)
	if err != nil {
		return mteb.Exactness{}, err
	}
	b, err := mteb.Evaluate(rule, some, slow)
	return mteb.Exactness{Queries: len(some), MAP: a.AP, Exact: b.AP}, err
}
