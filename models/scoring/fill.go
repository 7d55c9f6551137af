package scoring

import (
	"cmp"
	"slices"
)

// Call is one caller's place in the order of a Queue. The zero value is a new caller.
type Call struct{ turn float64 }

// Each call has a turn: the virtual time at which it would finish if all waiting calls got equal shares of the model. The call with the
// earliest turn runs first (weighted fair queueing, Demers, Keshav and Shenker 1989). So no call waits for ever, and a short call passes
// the full batches of long ones.
//
// The unit of virtual time is a quarter of a full batch for each waiting call. While n calls wait, a run of a full batch moves the
// queue's clock by sharesOfBatch/n. A batch's turn is the clock when it came, or the turn of its call's batch before if that is later,
// plus the batch's own shares.
//
// Shares are whole numbers so that calls of at most a quarter of a batch keep the order in which they came. If the shortest of them
// always went first, the longest would wait many times as long as it runs.
const sharesOfBatch = 4

// A run takes time for its tokens, and for the pairs of tokens that attention compares, padding included: measured with
// all-MiniLM-L6-v2 on one thread, 0.27 ms a token, as much for 1,200 pairs, and 1.8 ms whatever it has. Wider models have more
// tokens' time for the same pairs.
const (
	pairsOfToken = 1200
	// maxPaddingTokens bounds what joining costs by padding: about what one more run costs on all cores. Without it a text of 256
	// tokens and seven of 20 take twice as long together as one after the other.
	maxPaddingTokens = 16
)

// shares is how many shares of a full batch a batch takes, at least one.
func (q *Queue[V]) shares(x *queued[V]) int {
	share := max(1, q.o.BatchTokens/sharesOfBatch)
	return max(1, (x.tokens+len(x.rows)*x.longest*x.longest/pairsOfToken+share-1)/share)
}

// fill takes the batch whose turn it is, and those that may share its run, in the order of their turns: real tokens are counted,
// and padding as far as attention computes it, so that texts of like length come together.
func (q *Queue[V]) fill() []*queued[V] {
	order := slices.Clone(q.waiting)
	slices.SortStableFunc(order, func(a, b *queued[V]) int { return cmp.Compare(a.turn, b.turn) })
	served := 0
	var batch []*queued[V]
	rows, tokens, longest, pairs := 0, 0, 0, 0 // pairs are those that the calls' rows would have without each other
	for _, x := range order {
		n, t, l, p := rows+len(x.rows), tokens+x.tokens, max(longest, x.longest), pairs+len(x.rows)*x.longest*x.longest
		if batch == nil || n <= batchRows && t <= q.o.BatchTokens && (n*l*l-p)/pairsOfToken <= maxPaddingTokens {
			batch, rows, tokens, longest, pairs = append(batch, x), n, t, l, p
			served += q.shares(x)
		}
	}
	q.clock += float64(served) / float64(len(order))
	q.waiting = slices.DeleteFunc(q.waiting, func(x *queued[V]) bool { return slices.Contains(batch, x) })
	return batch
}
