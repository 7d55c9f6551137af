package scoring

import (
	"context"
	"sync"
	"time"
)

// Trace sums up what a queue did for one caller, a server's request for example. The caller puts it into its context by WithTrace.
type Trace struct {
	// Each hears of each run with the caller's rows just after it has ended. Nil: nobody does. Several goroutines may call it, also
	// after the caller has gone.
	Each func(TraceTotals)

	mu    sync.Mutex
	total TraceTotals
}

// TraceTotals are the sums of a Trace.
type TraceTotals struct {
	Waited time.Duration // in the queue
	Ran    time.Duration // in the model, together with other callers' rows
	Rows   int           // texts, or pairs of query and document
	Tokens int
}

type traceKey struct{}

// WithTrace returns a context whose calls of a queue are added up in t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// Totals are the sums so far.
func (t *Trace) Totals() TraceTotals {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// addTrace adds to the trace of a context, if it has one.
func addTrace(ctx context.Context, x TraceTotals) {
	t, ok := ctx.Value(traceKey{}).(*Trace)
	if !ok {
		return
	}
	if t.Each != nil {
		t.Each(x)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Waited += x.Waited
	t.total.Ran += x.Ran
	t.total.Rows += x.Rows
	t.total.Tokens += x.Tokens
}
