package mteb

import "context"

// Scorer scores the candidates of samples.
type Scorer interface {
	// Score scores samples[from:] in order, and calls emit with the scores of each sample's Candidates. An earlier run has
	// scored the samples before. They are passed too, so that scores do not depend on where that run was stopped. progress
	// is called with the number of texts or pairs done and their total.
	Score(ctx context.Context, samples []Sample, from int, progress func(done, total int), emit func(scores []float32) error) error
}

// ScoreAll returns the scores of all samples.
func ScoreAll(ctx context.Context, s Scorer, samples []Sample) (scores [][]float32, err error) {
	err = s.Score(ctx, samples, 0, func(int, int) {}, func(x []float32) error {
		scores = append(scores, x)
		return nil
	})
	return scores, err
}

// ScoreRow is a line of a scores file: the scores of one query's candidates, positives first.
type ScoreRow struct {
	Task    string    `json:"task"`
	QueryID string    `json:"query_id"`
	Scores  []float32 `json:"scores"`
}

// ScoreRows makes the lines of a scores file from a task's scores.
func ScoreRows(t Task, scores [][]float32) []ScoreRow {
	out := make([]ScoreRow, len(scores))
	for i, s := range scores {
		out[i] = ScoreRow{t.Name, t.Samples[i].ID, s}
	}
	return out
}
