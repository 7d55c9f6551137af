package eval

import (
	"context"
	"fmt"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/mteb"
)

// BM25 scores candidates by their words alone: what a model has to beat. Rarity is that of the task's candidates.
type BM25 struct{}

// Score implements Scorer.
func (BM25) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	asked := map[string]bool{}
	number, docs := map[string]int{}, []string(nil)
	for _, s := range samples {
		for _, q := range s.Query {
			for _, t := range bm25.Terms(q) {
				asked[t] = true
			}
		}
		for _, d := range s.Candidates() {
			if _, ok := number[d]; !ok {
				number[d] = len(docs)
				docs = append(docs, d)
			}
		}
	}
	index := bm25.NewIndex(docs, bm25.Terms, func(term string) bool { return asked[term] })
	out := make([][]float32, len(samples))
	for i, s := range samples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, q := range s.Query {
			all := index.Scores(q)
			var scores []float32
			for _, d := range s.Candidates() {
				scores = append(scores, float32(all[number[d]]))
			}
			out[i] = mteb.Best(out[i], scores)
		}
		progress(i+1, len(samples))
	}
	return out, nil
}

// Recorded are scores that eval --save-scores or another program wrote, by task and query.
type Recorded struct {
	path string
	rows map[[2]string][]float32
}

// OpenRecorded reads a file of mteb.ScoreRow. Rows without a task serve any.
func OpenRecorded(path string) (*Recorded, error) {
	f, err := jsonl.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &Recorded{path: path, rows: map[[2]string][]float32{}}
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

// Of are the scores of one task.
func (r *Recorded) Of(task string) Scorer { return recordedTask{r, task} }

type recordedTask struct {
	r    *Recorded
	task string
}

// Score implements Scorer.
func (t recordedTask) Score(_ context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	out := make([][]float32, len(samples))
	for i, s := range samples {
		scores, ok := t.r.rows[[2]string{t.task, s.ID}]
		if !ok {
			scores, ok = t.r.rows[[2]string{"", s.ID}]
		}
		if !ok {
			return nil, fmt.Errorf("%s: no scores of task %q, query %q", t.r.path, t.task, s.ID)
		}
		if want := len(s.Positive) + len(s.Negative); len(scores) != want {
			return nil, fmt.Errorf("%s: task %q, query %q has %d scores for %d candidates", t.r.path, t.task, s.ID, len(scores), want)
		}
		out[i] = scores
	}
	progress(len(samples), len(samples))
	return out, nil
}
