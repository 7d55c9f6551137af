package scoring

import (
	"context"
	"slices"
	"sort"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/dist"
)

const (
	// DefaultBatchTokens bounds a batch's padded tokens: enough work for each run, and values that stay in the cache (with
	// 8,192 tokens encoding takes an eighth longer).
	DefaultBatchTokens = 2048
	// batchRows bounds a batch's rows.
	batchRows = 256
)

// ByLength cuts rows, longest first, into batches of at most batchTokens padded tokens, 0 for DefaultBatchTokens, and of at
// most 256 rows. It gives the numbers of each batch's rows, which depend on the rows only.
func ByLength(rows []encoder.Row, batchTokens int) [][]int {
	if batchTokens <= 0 {
		batchTokens = DefaultBatchTokens
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return len(rows[order[i]].IDs) > len(rows[order[j]].IDs) })
	var out [][]int
	for len(order) > 0 {
		n := min(len(order), batchRows, max(1, batchTokens/max(1, len(rows[order[0]].IDs))))
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

// batching says how rows are run in batches. V is a row's value.
type batching[V any] struct {
	tokens  int // of a batch; 0: DefaultBatchTokens
	forward func(rows []encoder.Row) ([]V, error)
	queue   *Queue[V]    // that joins batches of concurrent calls; nil: each call runs its own
	ranks   *dist.Dealer // that share the batches; nil: this process runs all
	carrier Carrier[V]
}

// run gives every row's value, in the rows' order, from batches of rows of like length. A batch without a wanted row is left
// out, and its rows have no values; nil wants all rows. done hears the numbers of the rows of each batch that ran; where ranks
// share the batches, it hears of as many as this rank's pace lets expect.
func (x batching[V]) run(ctx context.Context, rows []encoder.Row, wanted func(row int) bool, done func(rows []int)) ([]V, error) {
	batches := ByLength(rows, x.tokens)
	if wanted != nil {
		batches = slices.DeleteFunc(batches, func(batch []int) bool { return !slices.ContainsFunc(batch, wanted) })
	}
	if x.ranks.Shares() {
		return x.runShared(ctx, rows, batches, done)
	}
	out := make([]V, len(rows))
	var call Call
	for _, batch := range batches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		values, err := x.compute(ctx, &call, encoder.Pick(rows, batch))
		if err != nil {
			return nil, err
		}
		for k, i := range batch {
			out[i] = values[k]
		}
		done(batch)
	}
	return out, nil
}

// compute runs one batch.
func (x batching[V]) compute(ctx context.Context, call *Call, rows []encoder.Row) ([]V, error) {
	if x.queue != nil {
		return x.queue.Run(ctx, call, rows)
	}
	return x.forward(rows)
}

// tokenizeEach calls f with 0, 1, … n-1. It stops at an error, and when the context ends. Calls that a queue joins share the cores
// for it; f makes the rows of one text. Ranks that share the work do not stop here when the context ends: one that stopped by itself
// would leave the others waiting. They agree on it in Deal.
func tokenizeEach[V any](ctx context.Context, q *Queue[V], ranks *dist.Dealer, n int, f func(i int) error) error {
	if ranks.Shares() {
		ctx = context.WithoutCancel(ctx)
	}
	for i := range n {
		if err := q.Tokenize(ctx, func() error { return f(i) }); err != nil {
			return err
		}
	}
	return nil
}
