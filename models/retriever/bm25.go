package retriever

import (
	"context"

	"rag-retrieval-go/internal/bm25"
)

// BM25 is the lexical baseline. Document frequencies are counted over the documents of all queries of a call.
type BM25 struct{}

// Rank implements Ranker. Progress counts queries.
func (BM25) Rank(ctx context.Context, queries []Query, o RankOptions, emit func(scores []float32) error) error {
	queryTerms := map[string]bool{}
	number, documents := map[string]int{}, []string(nil)
	for _, q := range queries {
		for _, text := range q.Texts {
			for _, t := range bm25.Terms(text) {
				queryTerms[t] = true
			}
		}
		for _, d := range q.Documents {
			if _, ok := number[d]; !ok {
				number[d] = len(documents)
				documents = append(documents, d)
			}
		}
	}
	index := bm25.NewIndex(documents, bm25.Terms, func(term string) bool { return queryTerms[term] })
	for i, q := range queries[o.Start:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		scores := make([]float32, len(q.Documents))
		for k, text := range q.Texts {
			all := index.Scores(text)
			for j, d := range q.Documents {
				x := float32(all[number[d]])
				if k == 0 {
					scores[j] = x
				}
				scores[j] = max(scores[j], x)
			}
		}
		if err := emit(scores); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(i+1, len(queries)-o.Start)
		}
	}
	return nil
}
