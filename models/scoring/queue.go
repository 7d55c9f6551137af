package scoring

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/runtime"
)

// Queue joins the batches of concurrent calls into larger ones: a server's requests, of which each has a few texts. A call that
// finds nothing to do runs at once; calls that come while the model is busy wait together, and share its next run.
//
// A call hands over one batch at a time, and fill.go says whose turn it is: a long call gets as much of the model as each other call,
// and a short one does not wait for all of it. Gate shares the cores with the queues of other models.
type Queue[V any] struct {
	forward func(rows []encoder.Row) ([]V, error)
	o       QueueOptions
	party   party

	mu      sync.Mutex
	waiting []*queued[V] // in the order in which they came
	clock   float64      // the turn up to which calls have been served, see fill.go
	active  int          // goroutines that run batches or wait at the gate
	running int          // runs that go on
	workers sync.WaitGroup
}

// QueueOptions say how a Queue makes batches.
type QueueOptions struct {
	// BatchTokens bounds the tokens of a run that several calls share, without padding. A call's own batch is never cut.
	BatchTokens int
	// Runs is how many runs of this model go on at once.
	Runs int
	// Gate shares the cores with other queues. Nil: the queue is alone.
	Gate *Gate
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
	turn    float64
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
	if o.Gate == nil {
		o.Gate = NewGate(o.Runs)
	}
	return &Queue[V]{forward: forward, o: o}
}

// Run computes the values of a batch. c is the call that it belongs to, whose batches come one after the other. If the context ends
// while the batch waits, it is dropped.
func (q *Queue[V]) Run(ctx context.Context, c *Call, rows []encoder.Row) ([]V, error) {
	x := &queued[V]{ctx: ctx, rows: rows, came: time.Now(), done: make(chan struct{})}
	for _, r := range rows {
		x.longest = max(x.longest, len(r.IDs))
		x.tokens += len(r.IDs)
	}
	q.mu.Lock()
	c.turn = max(q.clock, c.turn) + float64(q.shares(x))
	x.turn = c.turn
	q.waiting = append(q.waiting, x)
	if q.active < q.o.Runs {
		q.active++
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

// Tokenize calls f, which tokenizes one text, when the gate has a core left for it. Without a queue it calls f at once. If the context
// ends before, it returns the context's error.
func (q *Queue[V]) Tokenize(ctx context.Context, f func() error) error {
	if q != nil {
		return q.o.Gate.tokenize(ctx, f)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

// Wait returns when no run is going on. No call may be made after it.
func (q *Queue[V]) Wait() { q.workers.Wait() }

// work runs batches until none waits. A batch is made when the gate lets it run, so that calls which come until then are in it.
func (q *Queue[V]) work() {
	for e := q.o.Gate.enter(&q.party); e != nil; {
		<-e.open
		begun := time.Now()
		if batch := q.take(); batch != nil {
			q.run(batch)
		}
		took := time.Since(begun)
		e = q.o.Gate.leave(&q.party, took, q.goesOn())
	}
}

// take takes the calls of the next run. It returns nil if none waits.
func (q *Queue[V]) take() []*queued[V] {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running++
	q.waiting = slices.DeleteFunc(q.waiting, func(x *queued[V]) bool { return x.ctx.Err() != nil }) // Run has returned
	if len(q.waiting) == 0 {
		return nil
	}
	return q.fill()
}

// goesOn ends a run, and reports whether more calls wait. If none does, it counts the worker out.
func (q *Queue[V]) goesOn() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if len(q.waiting) == 0 {
		q.active--
		return false
	}
	return true
}

// run computes the rows of several calls. If that fails, each call runs by itself, so that one's mistake is not another's. Observe hears
// of these runs then, and not of the one that they shared, so that it counts no row twice.
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
	values, err := q.compute(rows)
	if err != nil && len(batch) > 1 && ofOneCall(err) {
		for _, x := range batch {
			if x.ctx.Err() == nil { // else Run has returned
				q.run([]*queued[V]{x})
			}
		}
		return
	}
	run.Seconds = time.Since(start).Seconds()
	if run.Err = err; q.o.Observe != nil {
		q.o.Observe(run)
	}
	for _, x := range batch {
		if x.err = err; err == nil {
			x.values, values = values[:len(x.rows):len(x.rows)], values[len(x.rows):]
		}
		addTrace(x.ctx, TraceTotals{Waited: start.Sub(x.came), Ran: time.Since(start), Rows: len(x.rows), Tokens: x.tokens})
		close(x.done)
	}
}

// ofOneCall says whether an error may be the mistake of one of several calls. Without memory, or with a changed weight file, every call
// fails, and each more run makes things worse.
func ofOneCall(err error) bool {
	var changed *changedError
	return !errors.Is(err, runtime.ErrOutOfMemory) && !errors.As(err, &changed)
}

// compute runs the model. A panic is the calls' error, with its stack: the queue's goroutine has nobody else who could tell it, and
// other calls must go on.
func (q *Queue[V]) compute(rows []encoder.Row) (values []V, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return q.forward(rows)
}
