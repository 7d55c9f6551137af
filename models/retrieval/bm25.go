package retrieval

import (
	"context"
	"runtime"
	"sync"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/mteb"
)

// BM25 is the lexical baseline. Documents without any of a query's words are not found.
type BM25 struct{}

// Search implements mteb.Searcher. Memory holds the places of the queries' words in the corpus, not its texts.
func (BM25) Search(ctx context.Context, t mteb.RetrievalTask, k int, progress func(stage string, done, total int)) (mteb.Run, error) {
	wanted := map[string]bool{}
	for _, q := range t.Queries {
		for _, term := range bm25.Terms(q.Text) {
			wanted[term] = true
		}
	}
	builder := bm25.NewBuilder(bm25.Terms, func(term string) bool { return wanted[term] })
	for i := range t.Corpus.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		passage, err := t.Corpus.Passage(i)
		if err != nil {
			return nil, err
		}
		builder.Add(passage)
	}
	index := builder.Index()
	run := make(mteb.Run, len(t.Queries))
	var mutex sync.Mutex
	next, done := 0, 0
	take := func(finished int) int { // the next query's number
		mutex.Lock()
		defer mutex.Unlock()
		if done += finished; finished > 0 {
			progress(searching, done, len(run))
		}
		next++
		return next - 1
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := take(0); i < len(run) && ctx.Err() == nil; i = take(1) {
				run[i] = lexicalHits(index.Scores(t.Queries[i].Text), k)
			}
		})
	}
	workers.Wait()
	return run, ctx.Err()
}

// lexicalHits returns the k documents with the highest scores above 0.
func lexicalHits(scores []float64, k int) []mteb.Hit {
	var out []mteb.Hit
	for _, i := range bm25.Best(scores, k) {
		out = append(out, mteb.Hit{Document: i, Score: float32(scores[i])})
	}
	return out
}
