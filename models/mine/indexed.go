package mine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/retriever"
)

// Indexed searches an index, in a folder or a database, besides the positives of a set: the corpus is the documents of the index, and
// the positives that are not among them. Documents of the index have numbers after those of the set. Its vectors must be of the same
// model, opened in the same way.
type Indexed struct {
	Vectors             // of the set, which was opened with SetOptions.Find
	Index   index.Store // that is searched
	texts   map[int]string
}

// Batch implements Searcher.
func (x *Indexed) Batch() int {
	if x.Ranks.Shares() {
		return retriever.StreamChunk * x.Ranks.Comm().Size()
	}
	return retriever.StreamChunk
}

// Text implements Searcher.
func (x *Indexed) Text(document int) (string, error) {
	if document < x.Set.Len() {
		return x.Set.Passage(document)
	}
	text, ok := x.texts[document]
	if !ok {
		return "", fmt.Errorf("document %d was not found by the last search", document)
	}
	return text, nil
}

// Search implements Searcher.
func (x *Indexed) Search(ctx context.Context, queries []Query, k int) ([]Found, error) {
	vectors, err := x.encode(ctx, queries)
	if err != nil {
		return nil, err
	}
	found, err := x.search(ctx, queries, vectors, k)
	if err != nil {
		return nil, err
	}
	stored, err := x.searchIndex(ctx, vectors, k)
	if err != nil {
		return nil, err
	}
	x.texts = map[int]string{}
	for i := range found {
		found[i].Hits = x.merge(queries[i], found[i].Hits, stored[i], k)
	}
	return found, nil
}

// storedHit is a document that the index has found.
type storedHit struct {
	Document int     `json:"d"`
	Score    float32 `json:"s"`
	Text     string  `json:"t"`
}

// indexPiece is how many queries are sent to the index together.
const indexPiece = 256

// searchIndex finds documents in the index. Ranks share the queries.
func (x *Indexed) searchIndex(ctx context.Context, vectors [][]float32, k int) ([][]storedHit, error) {
	pieces := slices.Collect(slices.Chunk(vectors, indexPiece))
	out := make([][]storedHit, 0, len(vectors))
	if !x.Ranks.Shares() {
		for _, p := range pieces {
			hits, err := x.searchPiece(ctx, p, k)
			if err != nil {
				return nil, err
			}
			out = append(out, hits...)
		}
		return out, nil
	}
	costs := make([]float64, len(pieces))
	for i, p := range pieces {
		costs[i] = float64(len(p))
	}
	results, err := x.Ranks.Deal(ctx, costs, func(i int) ([]byte, error) {
		hits, err := x.searchPiece(ctx, pieces[i], k)
		if err != nil {
			return nil, err
		}
		return json.Marshal(hits)
	})
	if err != nil {
		return nil, err
	}
	for _, b := range results {
		var hits [][]storedHit
		if err := json.Unmarshal(b, &hits); err != nil {
			return nil, fmt.Errorf("another rank's hits: %w", err)
		}
		out = append(out, hits...)
	}
	return out, nil
}

// searchPiece finds documents and reads their texts.
func (x *Indexed) searchPiece(ctx context.Context, vectors [][]float32, k int) ([][]storedHit, error) {
	hits, err := x.Index.Search(ctx, vectors, k, nil)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, list := range hits {
		for _, h := range list {
			numbers = append(numbers, h.Document)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	documents, err := x.Index.Documents(ctx, numbers)
	if err != nil {
		return nil, err
	}
	out := make([][]storedHit, len(hits))
	for i, list := range hits {
		for _, h := range list {
			at, _ := slices.BinarySearch(numbers, h.Document)
			out[i] = append(out[i], storedHit{h.Document, h.Score, documents[at].Passage()})
		}
	}
	return out, nil
}

// merge joins the documents that were found for a query in the set and in the index, best first. A document of the index whose text is
// in the set is that of the set; of equal texts in the index the best counts; one that equals the query is left out.
func (x *Indexed) merge(q Query, own []index.Hit, stored []storedHit, k int) []index.Hit {
	seen := map[string]bool{q.Text.Text: true}
	for _, h := range stored {
		if _, ok := x.Set.Find(h.Text); ok || seen[h.Text] { // the set's documents are among its own hits if they are good enough
			continue
		}
		seen[h.Text] = true
		number := x.Set.Len() + h.Document
		x.texts[number] = h.Text
		own = append(own, index.Hit{Document: number, Score: h.Score})
	}
	sort.SliceStable(own, func(i, j int) bool { return own[i].Score > own[j].Score })
	return own[:min(k, len(own))]
}
