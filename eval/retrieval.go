package eval

import (
	"context"
	"fmt"
	"time"

	"rag-retrieval-go/mteb"
)

// Candidates are the best documents of a run, as a reranking task.
type Candidates struct {
	// Task has a sample for each query for which something was found. Its candidates are the documents, best first: all of them are
	// negative, because a scorer does not ask which are relevant.
	Task mteb.Task

	queries   int     // of the run
	queryOf   []int   // the query of each sample
	documents [][]int // of each sample
}

// NewCandidates takes each query's top best documents of a run.
func NewCandidates(t mteb.RetrievalTask, run mteb.Run, top int) (*Candidates, error) {
	ranked, err := t.Ranked(run)
	if err != nil {
		return nil, err
	}
	c := &Candidates{Task: mteb.Task{Name: t.Name}, queries: len(run)}
	passages := map[int]string{} // many queries share a passage
	for i, q := range t.Queries {
		s := mteb.Sample{ID: q.ID, Query: []string{q.Text}, Origin: q.Origin}
		var documents []int
		for _, h := range ranked[i][:min(top, len(ranked[i]))] {
			text, known := passages[h.Document]
			if !known {
				if text, err = t.Corpus.Passage(h.Document); err != nil {
					return nil, err
				}
				passages[h.Document] = text
			}
			s.Negative, documents = append(s.Negative, text), append(documents, h.Document)
		}
		if documents != nil {
			c.Task.Samples, c.queryOf, c.documents = append(c.Task.Samples, s), append(c.queryOf, i), append(c.documents, documents)
		}
	}
	return c, nil
}

// Rerank scores the candidates, and returns the run of them with these scores: what the run had below them is dropped, as in
// MTEB. Scores of a stopped call come from the journal, which may be nil.
func (c *Candidates) Rerank(ctx context.Context, s mteb.Scorer, j *Journal, progress func(done, total int)) (mteb.Run, error) {
	scores := j.Scores()
	err := s.Score(ctx, c.Task.Samples, len(scores), progress, func(x []float32) error {
		scores = append(scores, x)
		j.Add(x)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Task.Name, err)
	}
	run := make(mteb.Run, c.queries)
	for i, list := range scores {
		if len(list) != len(c.documents[i]) {
			return nil, fmt.Errorf("the query %q: %d scores for %d documents", c.Task.Samples[i].ID, len(list), len(c.documents[i]))
		}
		for k, x := range list {
			run[c.queryOf[i]] = append(run[c.queryOf[i]], mteb.Hit{Document: c.documents[i][k], Score: x})
		}
	}
	return run, nil
}

// MeasureRetrieval measures a run that took from begun until now.
func MeasureRetrieval(t mteb.RetrievalTask, run mteb.Run, begun time.Time) (mteb.Result, mteb.RetrievalMetrics, error) {
	m, err := mteb.EvaluateRetrieval(t, run)
	if err != nil {
		return mteb.Result{}, m, fmt.Errorf("%s: %w", t.Name, err)
	}
	return mteb.NewRetrievalResult(t, m, time.Since(begun).Seconds()), m, nil
}
