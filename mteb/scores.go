package mteb

import "context"

// Scorer gives every candidate of every sample a score, positives first.
type Scorer interface {
	// Score scores the samples from number from on, in their order, and hands each one's scores to emit. The samples
	// before are there so that what is scored does not depend on where an earlier run was stopped. It reports progress as
	// texts or pairs done out of a total.
	Score(ctx context.Context, samples []Sample, from int, progress func(done, total int), emit func(scores []float32) error) error
}

// ScoreAll scores samples from the first to the last.
func ScoreAll(ctx context.Context, s Scorer, samples []Sample) (scores [][]float32, err error) {
	err = s.Score(ctx, samples, 0, func(int, int) {}, func(x []float32) error {
		scores = append(scores, x)
		return nil
	})
	return scores, err
}

// ScoreRow is a line of a scores file: one query's candidates, positives first.
type ScoreRow struct {
	Task    string    `json:"task"`
	QueryID string    `json:"query_id"`
	Scores  []float32 `json:"scores"`
}

// ScoreRows puts names to a task's scores.
func ScoreRows(t Task, scores [][]float32) []ScoreRow {
	out := make([]ScoreRow, len(scores))
	for i, s := range scores {
		out[i] = ScoreRow{t.Name, t.Samples[i].ID, s}
	}
	return out
}
