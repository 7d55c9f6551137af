package mine

import (
	"context"
	"fmt"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/models/index"
)

// BM25 searches by words. Document frequencies are counted over the documents of the set. A document that shares no word with the
// query is not found.
type BM25 struct {
	set   *Set
	index *bm25.Index
}

// Text implements Searcher.
func (x BM25) Text(document int) (string, error) { return x.set.Passage(document) }

// NewBM25 indexes the documents of a set. Memory holds the words of the queries, with the documents that have them, but no texts.
func NewBM25(ctx context.Context, s *Set) (BM25, error) {
	terms := map[string]bool{}
	for i := range s.Queries() {
		q, err := s.QueryText(i)
		if err != nil {
			return BM25{}, err
		}
		for _, t := range bm25.Terms(q.Text) {
			terms[t] = true
		}
	}
	b := bm25.NewBuilder(bm25.Terms, func(term string) bool { return terms[term] })
	for i := range s.Len() {
		text, err := s.Passage(i)
		if err != nil {
			return BM25{}, err
		}
		if err := ctx.Err(); err != nil {
			return BM25{}, err
		}
		b.Add(text)
	}
	return BM25{s, b.Index()}, nil
}

// Batch implements Searcher.
func (BM25) Batch() int { return 256 }

// Search implements Searcher.
func (x BM25) Search(ctx context.Context, queries []Query, k int) ([]Found, error) {
	if k < 1 {
		return nil, fmt.Errorf("a search for %d documents, want at least 1", k)
	}
	out := make([]Found, len(queries))
	for i, q := range queries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		scores := x.index.Scores(q.Text.Text)
		for _, h := range bm25.Best(scores, k) {
			out[i].Hits = append(out[i].Hits, index.Hit{Document: h, Score: float32(scores[h])})
		}
		for _, p := range q.Positives {
			out[i].Positives = append(out[i].Positives, float32(scores[p]))
		}
	}
	return out, nil
}
