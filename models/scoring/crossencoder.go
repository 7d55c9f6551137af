package scoring

import (
	"context"
	"errors"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/dist"
)

// CrossEncoder ranks by scores of pairs: query and document are read together.
type CrossEncoder struct {
	// Rows makes a pair's tokens. Several rows are the windows of a long passage, of which the best one counts.
	Rows func(p Pair, long LongText) ([]encoder.Row, error)
	// Windows ranks a passage that is too long by the best of its windows instead of by its beginning.
	Windows bool
	// Forward gives the scores of one batch, one for each row.
	Forward func(rows []encoder.Row) ([]float32, error)
	// BatchTokens bounds a batch's padded tokens; 0: DefaultBatchTokens.
	BatchTokens int
	// Ranks share the work if they are several: every rank makes the same calls, and all get every score. Nil: this process does
	// all.
	Ranks *dist.Dealer
	// Queue joins the batches of concurrent calls. Nil: each call runs its own.
	Queue *Queue[float32]
}

// pairBlock is how many pairs are scored together: enough to find pairs of like length, few enough to lose little to a
// stop.
const pairBlock = 1024

// Rank implements Ranker. Pairs of several queries share a batch. Progress counts pairs.
func (c CrossEncoder) Rank(ctx context.Context, queries []Query, o RankOptions, emit func(scores []float32) error) error {
	pairs := func(q Query) int { return len(q.Texts) * len(q.Documents) }
	ends := blocks(queries, pairBlock, pairs)
	total, done := 0, 0
	start := 0
	for _, end := range ends {
		for _, q := range queries[start:end] {
			if end > o.Start {
				total += pairs(q)
			}
		}
		start = end
	}
	start = 0
	for _, end := range ends {
		block := queries[start:end]
		if end > o.Start {
			scores, err := c.rankBlock(ctx, block, c.long(o), func(n int) { o.report(done+n, total) })
			if wrong := (*TextError)(nil); errors.As(err, &wrong) {
				wrong.Index += start
			}
			if err != nil {
				return err
			}
			for _, q := range block {
				done += pairs(q)
			}
			if err := c.Ranks.Agree(emitAll(scores[max(0, o.Start-start):], emit)); err != nil {
				return err
			}
		}
		start = end
	}
	return nil
}

// long says what is read of a pair that is too long.
func (c CrossEncoder) long(o RankOptions) LongText {
	switch {
	case o.RefuseLong:
		return Refuse
	case c.Windows:
		return Windows
	}
	return CutEnd
}

func emitAll(scores [][]float32, emit func(scores []float32) error) error {
	for _, x := range scores {
		if err := emit(x); err != nil {
			return err
		}
	}
	return nil
}

// rankBlock scores the documents of a block of queries.
func (c CrossEncoder) rankBlock(ctx context.Context, queries []Query, long LongText, progress func(done int)) ([][]float32, error) {
	var pairs []Pair
	var queryOf []int // the number of each pair's query
	for i, q := range queries {
		for _, text := range q.Texts {
			for _, d := range q.Documents {
				pairs, queryOf = append(pairs, Pair{Query: text, Passage: d, Prompt: q.Prompt}), append(queryOf, i)
			}
		}
	}
	scores, err := c.pairs(ctx, pairs, long, progress)
	if wrong := (*TextError)(nil); errors.As(err, &wrong) {
		i := queryOf[wrong.Index]
		return nil, &TextError{i, queries[i].Origin, wrong.Err}
	}
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(queries))
	for i, q := range queries {
		n := len(q.Documents)
		out[i] = lowestScores(n)
		for range q.Texts {
			for j, x := range scores[:n] {
				keepBest(out[i], j, x)
			}
			scores = scores[n:]
		}
	}
	return out, nil
}

// Pairs gives each pair's score. progress hears how many pairs are done; it may be nil. An error about a pair is a *TextError
// with the pair's number.
func (c CrossEncoder) Pairs(ctx context.Context, pairs []Pair, progress func(done int)) ([]float32, error) {
	return c.pairs(ctx, pairs, c.long(RankOptions{}), progress)
}

func (c CrossEncoder) pairs(ctx context.Context, pairs []Pair, long LongText, progress func(done int)) ([]float32, error) {
	var rows []encoder.Row
	var pairOf []int                // the number of each row's pair
	left := make([]int, len(pairs)) // how many rows of each pair are not scored yet
	queries := &tokenizer.Remembered{}
	err := tokenizeEach(ctx, c.Queue, c.Ranks, len(pairs), func(i int) error {
		p := pairs[i]
		p.queries = queries
		windows, err := c.Rows(p, long)
		if err != nil {
			return &TextError{Index: i, Err: err}
		}
		for range windows {
			pairOf = append(pairOf, i)
		}
		rows, left[i] = append(rows, windows...), len(windows)
		return nil
	})
	if err != nil {
		return nil, err
	}
	done := 0
	x := batching[float32]{tokens: c.BatchTokens, forward: c.Forward, queue: c.Queue, ranks: c.Ranks, carrier: single}
	scores, err := x.run(ctx, rows, nil, func(batch []int) {
		for _, row := range batch {
			if left[pairOf[row]]--; left[pairOf[row]] == 0 {
				done++
			}
		}
		if progress != nil {
			progress(done)
		}
	})
	if err != nil {
		return nil, err
	}
	out := lowestScores(len(pairs))
	for row, x := range scores {
		keepBest(out, pairOf[row], x)
	}
	return out, nil
}
