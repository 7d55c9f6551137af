// Package retrieval finds documents for the queries of a retrieval task in its whole corpus: by the vectors of an embedding model,
// by a ColBERT model's MaxSim, or by BM25. Each is an mteb.Searcher, which eval measures. All are exact: every document is
// compared with every query.
//
//	s := retrieval.BM25{}
//	run, err := s.Search(ctx, task, mteb.MostHits, progress)
//	m, err := mteb.EvaluateRetrieval(task, run)
//
// A reranker is not here: eval.Candidates has one score again what a Searcher found.
package retrieval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// What a search is busy with, for progress.
const (
	encodingQueries   = "encoding queries"
	encodingDocuments = "encoding documents"
	searching         = "searching"
)

// best keeps the k best of the hits that it is given. Of equal scores, the document with the lower number is better.
type best struct {
	k    int
	heap []mteb.Hit // the worst one first
}

// worse orders hits: negative if a is worse than b.
func worse(a, b mteb.Hit) int {
	return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(b.Document, a.Document))
}

func (b *best) add(h mteb.Hit) {
	if len(b.heap) < b.k {
		b.heap = append(b.heap, h)
		for i := len(b.heap) - 1; i > 0; {
			parent := (i - 1) / 2
			if worse(b.heap[i], b.heap[parent]) >= 0 {
				break
			}
			b.heap[i], b.heap[parent] = b.heap[parent], b.heap[i]
			i = parent
		}
		return
	}
	if b.k == 0 || worse(h, b.heap[0]) <= 0 {
		return
	}
	b.heap[0] = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(b.heap); child++ {
			if worse(b.heap[child], b.heap[least]) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		b.heap[i], b.heap[least] = b.heap[least], b.heap[i]
		i = least
	}
}

// hits returns the best hits, best first.
func (b *best) hits() []mteb.Hit {
	out := slices.Clone(b.heap)
	slices.SortFunc(out, func(x, y mteb.Hit) int { return worse(y, x) })
	return out
}

// encodeQueries encodes the queries of a task.
func encodeQueries(ctx context.Context, e retriever.Embedder, t mteb.RetrievalTask, progress func(stage string, done, total int)) ([]retriever.Embedding, error) {
	texts := make([]prompt.Text, len(t.Queries))
	for i, q := range t.Queries {
		texts[i] = prompt.Text{Query: true, Text: q.Text}
	}
	out, err := e.Encode(ctx, texts, retriever.EncodeOptions{Progress: func(done int) { progress(encodingQueries, done, len(texts)) }})
	if wrong := (*retriever.TextError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", t.Queries[wrong.Index].Origin, wrong.Err)
	}
	return out, err
}
