package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
)

// Ways to find documents.
const (
	ByVectors = "vectors"
	ByWords   = "bm25"
	ByBoth    = "hybrid" // by vectors and by words, joined by reciprocal rank fusion
)

// Ways lists the ways to find documents.
var Ways = []string{ByVectors, ByWords, ByBoth}

// Searcher answers queries from a store: it finds candidates by vectors, words or both, and may have a reranker order them.
type Searcher struct {
	Store Store
	By    string // one of Ways
	// Embedder makes the queries' vectors. It may be nil where documents are found by words only.
	Embedder retriever.Embedder
	// Dimension is to which the queries' vectors are cut; 0: they are whole.
	Dimension int
	// Reranker, if it is not nil, scores the best candidates again.
	Reranker retriever.Ranker
	// Candidates is how many documents are found for fusion and reranking, if more than are wanted.
	Candidates int
	Filter     Filter
}

// Found is a document that was found, with its score by the last of the steps: inner product, BM25, the sum of reciprocal ranks, or
// the reranker's score.
type Found struct {
	corpus.Document
	Score float32
}

// Search gives the k best documents for each query, best first.
func (s Searcher) Search(ctx context.Context, queries []string, k int) ([][]Found, error) {
	hits, err := s.candidates(ctx, queries, k)
	if err != nil {
		return nil, err
	}
	out := make([][]Found, len(queries))
	for i, list := range hits {
		numbers := make([]int, len(list))
		for j, h := range list {
			numbers[j] = h.Document
		}
		documents, err := s.Store.Documents(ctx, numbers)
		if err != nil {
			return nil, err
		}
		for j, d := range documents {
			out[i] = append(out[i], Found{d, list[j].Score})
		}
	}
	if s.Reranker != nil {
		if err := s.rerank(ctx, queries, out); err != nil {
			return nil, err
		}
	}
	for i := range out {
		out[i] = out[i][:min(k, len(out[i]))]
	}
	return out, nil
}

// UnknownField gives the first field of the filter that no document has, and the fields that documents have. The field is empty if
// documents have all of them. It may read all documents: it is for a search that has found nothing.
func (s Searcher) UnknownField(ctx context.Context) (field string, known []string, err error) {
	if len(s.Filter) == 0 {
		return "", nil, nil
	}
	if known, err = s.Store.Fields(ctx); err != nil {
		return "", nil, err
	}
	for _, c := range s.Filter {
		if !slices.Contains(known, c.Field) {
			return c.Field, known, nil
		}
	}
	return "", known, nil
}

// candidates finds the documents of each query.
func (s Searcher) candidates(ctx context.Context, queries []string, k int) ([][]Hit, error) {
	depth := k
	if s.By == ByBoth || s.Reranker != nil {
		depth = max(k, s.Candidates)
	}
	var byVectors, byWords [][]Hit
	if s.By != ByWords {
		vectors, err := s.encode(ctx, queries)
		if err != nil {
			return nil, err
		}
		if byVectors, err = s.Store.Search(ctx, vectors, depth, s.Filter); err != nil || s.By == ByVectors {
			return byVectors, err
		}
	}
	byWords, err := s.Store.BM25(ctx, queries, depth, s.Filter)
	if err != nil || s.By == ByWords {
		return byWords, err
	}
	if s.Reranker == nil {
		depth = k // no other document is read
	}
	out := make([][]Hit, len(queries))
	for i := range queries {
		out[i] = Fuse(depth, byVectors[i], byWords[i])
	}
	return out, nil
}

func (s Searcher) encode(ctx context.Context, queries []string) ([][]float32, error) {
	embeddings, err := s.Embedder.Encode(ctx, prompt.Texts(true, queries...), retriever.EncodeOptions{Dimension: s.Dimension})
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("the query %.100q: %w", queries[wrong.Index], wrong.Err)
	}
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		out[i] = e.Values
	}
	return out, nil
}

// rerank orders the documents of each query by the reranker's scores; of equal scores, the order stays.
func (s Searcher) rerank(ctx context.Context, queries []string, found [][]Found) error {
	var asked []retriever.Query
	for i, list := range found {
		q := retriever.Query{Texts: []string{queries[i]}, Origin: fmt.Sprintf("the query %.100q", queries[i])}
		for _, d := range list {
			q.Documents = append(q.Documents, d.Passage())
		}
		asked = append(asked, q)
	}
	scores, err := scoring.RankAll(ctx, s.Reranker, asked)
	if err != nil {
		return err
	}
	for i, list := range found {
		for j := range list {
			list[j].Score = scores[i][j]
		}
		slices.SortStableFunc(list, func(a, b Found) int { return cmp.Compare(b.Score, a.Score) })
	}
	return nil
}
