package retrieval

import (
	"context"
	"errors"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// Dense compares an embedding model's vectors of every document with those of every query.
type Dense struct {
	Embedder retriever.Embedder
	// Fingerprint stands for everything besides the corpus that vectors depend on, see retriever.Model.Fingerprint.
	Fingerprint string
	// Dir is a folder for the documents' vectors. A stopped search goes on with what is there; Search leaves them.
	Dir string
	// Engine says where, and with how many threads, vectors are compared.
	Engine runtime.Options
	// Ranks share the work if they are several: every rank makes the same call, and sees Dir. Nil: this process does all.
	Ranks *dist.Dealer
}

// Search implements mteb.Searcher.
func (d Dense) Search(ctx context.Context, t mteb.RetrievalTask, k int, progress func(stage string, done, total int)) (run mteb.Run, err error) {
	embeddings, err := encodeQueries(ctx, d.Embedder, t, progress)
	if err != nil {
		return nil, err
	}
	queries := make([][]float32, len(embeddings))
	for i, e := range embeddings {
		queries[i] = e.Values
	}
	vectors, err := index.Encode{
		Dir: d.Dir, Source: t.Corpus, Embedder: d.Embedder, Fingerprint: d.Fingerprint, Ranks: d.Ranks,
		Progress: func(done, total int) { progress(encodingDocuments, done, total) },
	}.Vectors(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vectors.Close()) }()
	search, err := index.NewExact(vectors, d.Engine)
	if err := d.Ranks.Agree(err); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, search.Close()) }()
	hits, err := search.Search(ctx, queries, k, index.SearchOptions{
		Ranks: d.Ranks, Progress: func(done, total int) { progress(searching, done, total) },
	})
	if err != nil {
		return nil, err
	}
	run = make(mteb.Run, len(hits))
	for i, list := range hits {
		for _, h := range list {
			run[i] = append(run[i], mteb.Hit{Document: h.Document, Score: h.Score})
		}
		hits[i] = nil
	}
	return run, nil
}
