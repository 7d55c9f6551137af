package mine

import (
	"context"
	"errors"
	"fmt"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
)

// Query is a query of a Set, for a Searcher.
type Query struct {
	Text      prompt.Text
	Location  string // such as "pairs.jsonl:7", for messages
	Positives []int  // its documents
}

// Found is what a search found for a query.
type Found struct {
	Hits      []index.Hit // best first
	Positives []float32   // the score of each positive
}

// A Searcher finds the documents of a Set with the highest scores for queries. Of several ranks, all call it with the same queries and
// get the same.
type Searcher interface {
	// Batch is how many queries a call should have.
	Batch() int
	// Search finds the k best documents of each query, and scores the query's positives.
	Search(ctx context.Context, queries []Query, k int) ([]Found, error)
	// Text reads a document that the last Search found.
	Text(document int) (string, error)
}

// Vectors searches by the inner products of an embedding model's vectors.
type Vectors struct {
	Set       *Set
	Embedder  retriever.Embedder
	Documents *index.Vectors // of the set
	Exact     *index.Exact
	Dimension int          // to which vectors are cut; 0: they are whole
	Ranks     *dist.Dealer // nil: this process does all
}

// Text implements Searcher.
func (v Vectors) Text(document int) (string, error) { return v.Set.Passage(document) }

// searchBatch is how many queries a rank searches at once.
const searchBatch = 2048

// Batch implements Searcher.
func (v Vectors) Batch() int {
	if v.Ranks.Shares() {
		return searchBatch * v.Ranks.Comm().Size()
	}
	return searchBatch
}

// Search implements Searcher.
func (v Vectors) Search(ctx context.Context, queries []Query, k int) ([]Found, error) {
	vectors, err := v.encode(ctx, queries)
	if err != nil {
		return nil, err
	}
	return v.search(ctx, queries, vectors, k)
}

// search is Search with the queries' vectors.
func (v Vectors) search(ctx context.Context, queries []Query, vectors [][]float32, k int) ([]Found, error) {
	hits, err := v.Exact.Search(ctx, vectors, k, index.SearchOptions{Ranks: v.Ranks})
	if err != nil {
		return nil, err
	}
	out := make([]Found, len(queries))
	for i, q := range queries {
		out[i] = Found{hits[i], make([]float32, len(q.Positives))}
		for j, p := range q.Positives {
			out[i].Positives[j] = v.score(vectors[i], hits[i], p)
		}
	}
	return out, nil
}

// score is a document's score: as the search has it, or if the search did not find the document, its inner product.
func (v Vectors) score(query []float32, hits []index.Hit, document int) float32 {
	for _, h := range hits {
		if h.Document == document {
			return h.Score
		}
	}
	sum := 0.0
	for i, x := range v.Documents.Row(document) {
		sum += float64(x) * float64(query[i])
	}
	return float32(sum)
}

// encode encodes queries in chunks whose size does not depend on the number of ranks: then the vectors do not either.
func (v Vectors) encode(ctx context.Context, queries []Query) ([][]float32, error) {
	var out [][]float32
	for from := 0; from < len(queries); from += retriever.StreamChunk {
		chunk := queries[from:min(from+retriever.StreamChunk, len(queries))]
		texts := make([]prompt.Text, len(chunk))
		for i, q := range chunk {
			texts[i] = q.Text
		}
		embeddings, err := v.Embedder.Encode(ctx, texts, retriever.EncodeOptions{Dimension: v.Dimension})
		if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
			return nil, fmt.Errorf("%s: %w", chunk[wrong.Index].Location, wrong.Err)
		}
		if err != nil {
			return nil, err
		}
		for _, e := range embeddings {
			out = append(out, e.Values)
		}
	}
	return out, nil
}
