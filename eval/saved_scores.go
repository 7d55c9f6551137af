package eval

import (
	"context"
	"fmt"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/mteb"
)

// SavedScores holds scores from a file that eval --save-scores or another program wrote, by task and query.
type SavedScores struct {
	path string
	rows map[[2]string][]float32
}

// OpenSavedScores reads a file of mteb.ScoreRow. A row without a task counts for every task.
func OpenSavedScores(path string) (*SavedScores, error) {
	f, err := jsonl.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &SavedScores{path: path, rows: map[[2]string][]float32{}}
	for i := range f.Len() {
		var row mteb.ScoreRow
		if err := f.Row(i, &row); err != nil {
			return nil, err
		}
		key := [2]string{row.Task, row.QueryID}
		switch {
		case row.QueryID == "" || row.Scores == nil:
			return nil, f.Errorf(i, `"query_id" or "scores" is missing`)
		case r.rows[key] != nil:
			return nil, f.Errorf(i, "a second row of task %q, query %q", row.Task, row.QueryID)
		}
		r.rows[key] = row.Scores
	}
	return r, nil
}

// ForTask returns a scorer with the scores of one task.
func (r *SavedScores) ForTask(task string) mteb.Scorer { return savedTaskScores{r, task} }

type savedTaskScores struct {
	r    *SavedScores
	task string
}

// Score implements mteb.Scorer.
func (t savedTaskScores) Score(_ context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	for _, s := range samples[from:] {
		scores, ok := t.r.rows[[2]string{t.task, s.ID}]
		if !ok {
			scores, ok = t.r.rows[[2]string{"", s.ID}]
		}
		if !ok {
			return fmt.Errorf("%s: no scores of task %q, query %q", t.r.path, t.task, s.ID)
		}
		if want := len(s.Positive) + len(s.Negative); len(scores) != want {
			return fmt.Errorf("%s: task %q, query %q has %d scores for %d candidates", t.r.path, t.task, s.ID, len(scores), want)
		}
		if err := emit(scores); err != nil {
			return err
		}
	}
	progress(len(samples)-from, len(samples)-from)
	return nil
}
