package mine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
)

// Job is what Run mines.
type Job struct {
	Set      *Set
	Searcher Searcher
	Options  Options
	// CrossEncoder scores candidates again where Options.CrossEncodes. Activation is applied to its scores; nil: none.
	CrossEncoder retriever.Ranker
	Activation   func(score float32) float32
	// Progress hears how many queries are done. It may be nil.
	Progress func(done, total int)
	// Ranks share the work if they are several: every rank makes the same call, and gets the same. Nil: this process does all.
	Ranks *dist.Dealer
}

// Passage is a passage with its score.
type Passage struct {
	Text  string
	Score float32
}

// Mined is a query with its positives and the negatives that were found for it, best first. There may be none.
type Mined struct {
	Query     prompt.Text
	Positives []Passage
	Negatives []Passage
}

// Run mines every query of the set, and hands each one to emit, in the order of the rows. emit is nil on ranks that write nothing: they
// read no texts for it.
func Run(ctx context.Context, j Job, emit func(Mined) error) (Report, error) {
	o := j.Options.withRange(j.Set.mostRows)
	r := newReport(j.Set, o)
	if err := o.Check(); err != nil {
		return r, err
	}
	batch := j.Searcher.Batch()
	for from := 0; from < j.Set.Queries(); from += batch {
		to := min(from+batch, j.Set.Queries())
		mined, err := j.batch(ctx, from, to, o, &r, emit != nil)
		if err != nil {
			return r, err
		}
		if err := j.Ranks.Agree(emitAll(mined, emit)); err != nil {
			return r, err
		}
		if j.Progress != nil {
			j.Progress(to, j.Set.Queries())
		}
	}
	return r, nil
}

func emitAll(mined []Mined, emit func(Mined) error) error {
	for _, m := range mined {
		if err := emit(m); err != nil {
			return err
		}
	}
	return nil
}

// batch mines the queries from, from+1, … to-1. Their texts are read if they are wanted.
func (j Job) batch(ctx context.Context, from, to int, o Options, r *Report, wanted bool) ([]Mined, error) {
	queries, err := j.queries(from, to)
	if err := j.Ranks.Agree(err); err != nil {
		return nil, err
	}
	window := min(o.RangeMax, math.MaxInt32) + j.Set.mostRows // searchers know how many documents there are
	found, err := j.Searcher.Search(ctx, queries, window+1)   // one more: the document that equals the query is left out
	if err != nil {
		return nil, err
	}
	ranked := make([]Ranked, len(queries))
	for i, q := range queries {
		ranked[i] = j.rank(from+i, q, found[i], window)
	}
	if o.CrossEncodes() {
		if err := j.rescore(ctx, queries, ranked); err != nil {
			return nil, err
		}
	}
	var out []Mined
	for i, q := range queries {
		chosen, counts := o.Select(ranked[i])
		r.add(ranked[i], chosen, counts, o)
		if !wanted {
			continue
		}
		m := Mined{Query: q.Text}
		if m.Positives, err = j.passages(ranked[i].Positives); err == nil {
			m.Negatives, err = j.passages(chosen)
		}
		if err != nil {
			break
		}
		out = append(out, m)
	}
	return out, j.Ranks.Agree(err)
}

// queries reads queries.
func (j Job) queries(from, to int) ([]Query, error) {
	out := make([]Query, to-from)
	for i := range out {
		text, err := j.Set.QueryText(from + i)
		if err != nil {
			return nil, err
		}
		out[i] = Query{Text: text, Location: j.Set.QueryLocation(from + i)}
		for _, p := range j.Set.queries[from+i].positives {
			out[i].Positives = append(out[i].Positives, int(p))
		}
	}
	return out, nil
}

// rank makes candidates of a query's hits: at most window, without the document that equals the query's text, unless that is one of
// its positives.
func (j Job) rank(number int, q Query, found Found, window int) Ranked {
	x := j.Set.queries[number]
	r := Ranked{Key: x.key}
	for i, p := range q.Positives {
		r.Positives = append(r.Positives, Candidate{p, found.Positives[i]})
	}
	for _, h := range found.Hits {
		if h.Document == int(x.equal) && !has(x.positives, x.equal) {
			continue
		}
		if len(r.Candidates) < window {
			r.Candidates = append(r.Candidates, Candidate(h))
		}
	}
	return r
}

// passages reads the texts of candidates.
func (j Job) passages(from []Candidate) ([]Passage, error) {
	out := make([]Passage, len(from))
	for i, c := range from {
		text, err := j.Searcher.Text(c.Document)
		if err != nil {
			return nil, err
		}
		out[i] = Passage{text, c.Score}
	}
	return out, nil
}

// rescoreBatch is how many queries the cross-encoder reads at once: their candidates' texts are in memory.
const rescoreBatch = 256

// rescore replaces all scores by those of the cross-encoder.
func (j Job) rescore(ctx context.Context, queries []Query, ranked []Ranked) error {
	for from := 0; from < len(queries); from += rescoreBatch {
		to := min(from+rescoreBatch, len(queries))
		pairs, err := j.pairs(queries[from:to], ranked[from:to])
		if err := j.Ranks.Agree(err); err != nil {
			return err
		}
		next := from
		err = j.CrossEncoder.Rank(ctx, pairs, retriever.RankOptions{}, func(scores []float32) error {
			for i, s := range scores {
				if j.Activation != nil {
					s = j.Activation(s)
				}
				if math.IsNaN(float64(s)) {
					return fmt.Errorf("%s: the cross-encoder's score is not a number", queries[next].Location)
				}
				scores[i] = s
			}
			for i := range ranked[next].Positives {
				ranked[next].Positives[i].Score = scores[i]
			}
			for i := range ranked[next].Candidates {
				ranked[next].Candidates[i].Score = scores[len(ranked[next].Positives)+i]
			}
			next++
			return nil
		})
		if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
			return fmt.Errorf("%s: %w", queries[from+wrong.Index].Location, wrong.Err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pairs are each query with its positives and candidates, in this order.
func (j Job) pairs(queries []Query, ranked []Ranked) ([]retriever.Query, error) {
	out := make([]retriever.Query, len(queries))
	for i, q := range queries {
		out[i] = retriever.Query{Texts: []string{q.Text.Text}, Prompt: q.Text.Prompt}
		for _, c := range append(append([]Candidate(nil), ranked[i].Positives...), ranked[i].Candidates...) {
			text, err := j.Searcher.Text(c.Document)
			if err != nil {
				return nil, err
			}
			out[i].Documents = append(out[i].Documents, text)
		}
	}
	return out, nil
}
