// Package eval evaluates scorers on reranking tasks and runs on retrieval tasks, compares results, checks them against a baseline
// and prints tables. It knows nothing of models: a model, BM25 and a file of scores are all an mteb.Scorer.
//
//	outcome, err := eval.Run(ctx, retriever.SampleScorer{Ranker: retriever.BM25{}}, task, mteb.Rule1, nil, progress)
//	fmt.Println(outcome.Result.MAP)
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

// Run scores and evaluates one task. It takes the scores of a stopped run from the journal and adds the new ones to it. The
// journal may be nil.
func Run(ctx context.Context, s mteb.Scorer, t mteb.Task, rule mteb.Rule, j *Journal, progress func(done, total int)) (Outcome, error) {
	begun := time.Now()
	scores := j.Scores()
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

// EvenlySpaced returns the indices of at most n of a number of samples, evenly spaced.
func EvenlySpaced(samples, n int) []int {
	n = min(n, samples)
	out := make([]int, n)
	for i := range out {
		out[i] = i * samples / n
	}
	return out
}

// CheckInt8 compares MAP of int8 scores with MAP of the scores of an exact scorer, on the picked samples. scores are the
// int8 scores of all samples.
func CheckInt8(ctx context.Context, exact mteb.Scorer, t mteb.Task, rule mteb.Rule, scores [][]float32, picked []int) (mteb.Int8Check, error) {
	var some []mteb.Sample
	var fast [][]float32
	for _, i := range picked {
		some, fast = append(some, t.Samples[i]), append(fast, scores[i])
	}
	slow, err := mteb.ScoreAll(ctx, exact, some)
	if err != nil {
		return mteb.Int8Check{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	a, err := mteb.Evaluate(rule, some, fast)
	if err != nil {
		return mteb.Int8Check{}, err
	}
	b, err := mteb.Evaluate(rule, some, slow)
	return mteb.Int8Check{Queries: len(some), MAP: a.AP, MAPFloat32: b.AP}, err
}
