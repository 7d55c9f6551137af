package scoring

import (
	"context"
	"math"
)

// Query is a query with the documents that are to be scored for it.
type Query struct {
	// Texts are the query's wordings, one as a rule. A document's score is its best score over them.
	Texts []string
	// Prompt stands before the query in place of the model's own prompt. Empty: the model's own.
	Prompt    string
	Documents []string
	// Origin says where the query is from, such as "test.jsonl:7", for messages. Empty: not known.
	Origin string
}

// RankOptions say which queries are scored, and who hears of it.
type RankOptions struct {
	// Start is the number of the first query that is scored. Queries before it only shape the batches, so that a ranking
	// that was stopped goes on with the scores that it would have had.
	Start int
	// RefuseLong ends the ranking with a *LengthError in a *TextError if a text or pair is too long for the model, instead of cutting it.
	RefuseLong bool
	// Progress hears how many texts or pairs are done, out of how many. It may be nil.
	Progress func(done, total int)
}

func (o RankOptions) report(done, total int) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}

// Ranker scores documents for queries.
type Ranker interface {
	// Rank scores the documents of queries[o.Start:], in order, and hands each query's scores to emit, one for each document.
	// An error about one of the texts is a *TextError with the query's number. Memory holds the tokens and vectors of one block
	// of queries at a time. Blocks and batches depend on the queries only.
	Rank(ctx context.Context, queries []Query, o RankOptions, emit func(scores []float32) error) error
}

// RankAll gives the scores of all queries' documents.
func RankAll(ctx context.Context, r Ranker, queries []Query) (scores [][]float32, err error) {
	err = r.Rank(ctx, queries, RankOptions{}, func(x []float32) error {
		scores = append(scores, x)
		return nil
	})
	return scores, err
}

// Overlap is how many tokens the windows of a long passage share, as in RAG-Retrieval's max_score_slice.
func Overlap(window int) int { return min(80, window/4) }

// blocks cuts queries into runs of at most size texts, but of at least one query. It gives the end of each run.
func blocks(queries []Query, size int, texts func(q Query) int) []int {
	var ends []int
	n := 0
	for i, q := range queries {
		if k := texts(q); n > 0 && n+k > size {
			ends, n = append(ends, i), k
		} else {
			n += k
		}
	}
	return append(ends, len(queries))
}

// lowestScores are n scores that any other score is better than.
func lowestScores(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(math.Inf(-1))
	}
	return out
}

// keepBest puts x in place of scores[i] where it is larger. A NaN is kept, so that a wrong model shows.
func keepBest(scores []float32, i int, x float32) {
	if x > scores[i] || x != x {
		scores[i] = x
	}
}
