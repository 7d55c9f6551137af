package mteb

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
