package scoring

import (
	"context"
	"sync"
	"time"

	"rag-retrieval-go/models/encoder"
)

// Queue joins the batches of concurrent calls into larger ones: a server's requests, of which each has a few texts. A call that
// finds nothing to do runs at once; calls that come while the model is busy wait together, and share its next run.
//
// Fairness comes from how rankers call it: each call of a BiEncoder or CrossEncoder has one batch here at a time. A long request
// gets its turn once for every turn of a short one.
type Queue[V any] struct {
	forward func(rows []encoder.Row) ([]V, error)
	o       QueueOptions

	mu      sync.Mutex
	waiting []*queued[V] // in the order in which they came
	running int          // runs at the moment
	workers sync.WaitGroup
}

// QueueOptions say how a Queue makes batches.
type QueueOptions struct {
	// BatchTokens bounds the padded tokens of a run that several calls share. A call's own batch is never cut.
	BatchTokens int
	// Runs is how many runs go on at once.
	Runs int
	// Observe hears of every run. It may be nil. Several goroutines call it.
	Observe func(QueueRun)
}

// QueueRun describes one run.
type QueueRun struct {
	Calls, Rows          int
	Tokens, PaddedTokens int // PaddedTokens are what the run would have with all rows as long as the longest
	Seconds              float64
	Err                  error
}

// QueueLoad is what a queue holds at one moment.
type QueueLoad struct {
	Calls, Rows, Tokens int // that wait; the calls whose clients have gone are still counted until the next run
	Runs                int // that go on
}

// Load tells what waits and runs now.
func (q *Queue[V]) Load() QueueLoad {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := QueueLoad{Calls: len(q.waiting), Runs: q.running}
	for _, x := range q.waiting {
		l.Rows += len(x.rows)
		l.Tokens += x.tokens
	}
	return l
}

// queued is the batch of a call.
type queued[V any] struct {
	ctx     context.Context
	rows    []encoder.Row
	longest int
	tokens  int
	came    time.Time
	values  []V
	err     error
	done    chan struct{} // closed when values or err is set
}

// NewQueue returns a queue for a model's forward pass.
func NewQueue[V any](forward func(rows []encoder.Row) ([]V, error), o QueueOptions) *Queue[V] {
	if o.BatchTokens <= 0 {
		o.BatchTokens = DefaultBatchTokens
	}
	o.Runs = max(1, o.Runs)
	return &Queue[V]{forward: forward, o: o}
}

// Run computes the values of a batch. If the context ends while it waits, it is dropped.
func (q *Queue[V]) Run(ctx context.Context, rows []encoder.Row) ([]V, error) {
	x := &queued[V]{ctx: ctx, rows: rows, came: time.Now(), done: make(chan struct{})}
	for _, r := range rows {
		x.longest = max(x.longest, len(r.IDs))
		x.tokens += len(r.IDs)
	}
	q.mu.Lock()
	q.waiting = append(q.waiting, x)
	if q.running < q.o.Runs {
		q.running++
		q.workers.Go(q.work)
	}
	q.mu.Unlock()
	select {
	case <-x.done:
		return x.values, x.err
	case <-ctx.Done():
		return nil, ctx.Err() // the worker that takes it sees that too
	}
}

// Wait returns when no run is going on. No call may be made after it.
func (q *Queue[V]) Wait() { q.workers.Wait() }

// work runs batches until none waits.
func (q *Queue[V]) work() {
	for {
		batch := q.take()
		if batch == nil {
			return
		}
		q.run(batch)
	}
}

// take takes the call that has waited longest, and those after it that fit into its run. It returns nil, and counts the worker out,
// if none waits.
func (q *Queue[V]) take() []*queued[V] {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch, rest []*queued[V]
	rows, longest := 0, 0
	for _, x := range q.waiting {
		if x.ctx.Err() != nil {
			continue // Run has returned
		}
		if n := rows + len(x.rows); batch == nil || n <= batchRows && n*max(longest, x.longest) <= q.o.BatchTokens {
			batch, rows, longest = append(batch, x), n, max(longest, x.longest)
		} else {
			rest = append(rest, x)
		}
	}
	q.waiting = rest
	if batch == nil {
		q.running--
	}
	return batch
}

// run computes the rows of several calls. If that fails, each call runs by itself, so that one's mistake is not another's.
func (q *Queue[V]) run(batch []*queued[V]) {
	var rows []encoder.Row
	run := QueueRun{Calls: len(batch)}
	longest := 0
	for _, x := range batch {
		rows, longest = append(rows, x.rows...), max(longest, x.longest)
		run.Tokens += x.tokens
	}
	run.Rows, run.PaddedTokens = len(rows), longest*len(rows)
	start := time.Now()
	values, err := q.forward(rows)
	run.Seconds = time.Since(start).Seconds()
	if run.Err = err; q.o.Observe != nil {
		q.o.Observe(run)
	}
	if err != nil && len(batch) > 1 {
		for _, x := range batch {
			q.run([]*queued[V]{x})
		}
		return
	}
	for _, x := range batch {
		if x.err = err; err == nil {
			x.values, values = values[:len(x.rows):len(x.rows)], values[len(x.rows):]
		}
		addTrace(x.ctx, TraceTotals{Waited: start.Sub(x.came), Ran: time.Since(start), Rows: len(x.rows), Tokens: x.tokens})
		close(x.done)
	}
}
