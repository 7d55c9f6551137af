package retrieval

import (
	"context"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// Dense compares an embedding model's vectors.
type Dense struct {
	Embedder retriever.Embedder
}

// Search implements mteb.Searcher.
func (d Dense) Search(ctx context.Context, t mteb.RetrievalTask, k int, progress func(stage string, done, total int)) (mteb.Run, error) {
	queries, err := encodeQueries(ctx, d.Embedder, t, progress)
	if err != nil {
		return nil, err
	}
	found := make([]best, len(queries))
	for i := range found {
		found[i].k = k
	}
	n := 0
	texts := func(yield func(prompt.Text, error) bool) {
		for i := range t.Corpus.Len() {
			p, err := t.Corpus.Passage(i)
			if !yield(prompt.Text{Text: p}, err) {
				return
			}
		}
	}
	err = retriever.Stream(ctx, d.Embedder, texts, retriever.EncodeOptions{Progress: func(done int) { progress(encodingDocuments, done, t.Corpus.Len()) }}, func(e retriever.Embedding) error {
		for i, q := range queries {
			var x float32
			for j, v := range e.Values {
				x += v * q.Values[j]
			}
			found[i].add(mteb.Hit{Document: n, Score: x})
		}
		n++
		return nil
	})
	return runOf(found), err
}
