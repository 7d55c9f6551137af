package scoring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/runtime"
)

// slowForward takes a second for each run, and gives each row its length.
func slowForward(runs *[]int) func(rows []encoder.Row) ([]float32, error) {
	var mu sync.Mutex
	return func(rows []encoder.Row) ([]float32, error) {
		time.Sleep(time.Second)
		mu.Lock()
		*runs = append(*runs, len(rows))
		mu.Unlock()
		out := make([]float32, len(rows))
		for i, r := range rows {
			if out[i] = float32(len(r.IDs)); len(r.IDs) == 13 {
				return nil, errors.New("13 tokens")
			}
		}
		return out, nil
	}
}

func rowsOfLengths(lengths ...int) (out []encoder.Row) {
	for _, n := range lengths {
		out = append(out, encoder.Row{IDs: make([]int64, n)})
	}
	return out
}

func TestQueueJoinsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		var seen []QueueRun
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 40, Observe: func(r QueueRun) { seen = append(seen, r) }})
		var calls sync.WaitGroup
		begun := time.Now()
		for i, lengths := range [][]int{{5}, {7, 3}, {10}, {11, 11}, {40, 40}, {1}} {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // they come in this order
				values, err := q.Run(context.Background(), new(Call), rowsOfLengths(lengths...))
				var want []float32
				for _, n := range lengths {
					want = append(want, float32(n))
				}
				if err != nil || !slices.Equal(values, want) {
					t.Errorf("%v: %v, %v", lengths, values, err)
				}
			})
		}
		calls.Wait()
		q.Wait()
		// The first runs alone and at once. Then {7,3}, {10} and {1} share a run of at most 40 padded tokens; {11,11} and {40,40} do not fit.
		if want := []int{1, 4, 2, 2}; !slices.Equal(runs, want) {
			t.Errorf("the runs have %v rows, want %v", runs, want)
		}
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("%v, want 4 s", took)
		}
		if want := (QueueRun{Calls: 3, Rows: 4, Tokens: 21, PaddedTokens: 40, Seconds: 1}); len(seen) != 4 || seen[1] != want {
			t.Errorf("%+v, want the second to be %+v", seen, want)
		}
	})
}

// A call's trace adds up what its batches waited, ran and held; another call's rows in the same run are not in it.
func TestQueueTraces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 40})
		var first, second Trace
		var calls sync.WaitGroup
		calls.Go(func() { q.Run(WithTrace(context.Background(), &first), new(Call), rowsOfLengths(5)) })
		calls.Go(func() { time.Sleep(time.Millisecond); q.Run(context.Background(), new(Call), rowsOfLengths(4)) })
		calls.Go(func() {
			time.Sleep(250 * time.Millisecond)
			ctx := WithTrace(context.Background(), &second)
			q.Run(ctx, new(Call), rowsOfLengths(3, 7))
			q.Run(ctx, new(Call), rowsOfLengths(2))
		})
		calls.Wait()
		if got, want := first.Totals(), (TraceTotals{Ran: time.Second, Rows: 1, Tokens: 5}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got, want := second.Totals(), (TraceTotals{Waited: 750 * time.Millisecond, Ran: 2 * time.Second, Rows: 3, Tokens: 12}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// A long request has one batch in the queue at a time, so that short ones wait for one run of it only.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 16})
		c := CrossEncoder{
			Rows:        func(p Pair, _ LongText) ([]encoder.Row, error) { return rowsOfLengths(len(p.Passage)), nil },
			BatchTokens: 16, Queue: q,
		}
		long := Query{Texts: []string{"q"}}
		for range 40 {
			long.Documents = append(long.Documents, "12345678")
		}
		var calls sync.WaitGroup
		begun := time.Now()
		var longTook time.Duration
		calls.Go(func() {
			if _, err := RankAll(context.Background(), c, []Query{long}); err != nil {
				t.Error(err)
			}
			longTook = time.Since(begun)
		})
		for i := range 3 {
			calls.Go(func() {
				time.Sleep(time.Duration(5*i)*time.Second + 500*time.Millisecond)
				asked := time.Now()
				if _, err := RankAll(context.Background(), c, []Query{{Texts: []string{"q"}, Documents: []string{"12345678"}}}); err != nil {
					t.Error(err)
				}
				if took := time.Since(asked); took > 2500*time.Millisecond {
					t.Errorf("a short request took %v beside a long one", took)
				}
			})
		}
		calls.Wait()
		q.Wait()
		if longTook < 20*time.Second || longTook > 23*time.Second {
			t.Errorf("the long request took %v", longTook)
		}
	})
}

// A call whose client has gone is dropped, and an error of one call is not that of another.
func TestQueueDropsAndSeparates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 1000})
		gone, leave := context.WithCancel(context.Background())
		var calls sync.WaitGroup
		ask := func(ctx context.Context, length int, wantErr string) {
			calls.Go(func() {
				_, err := q.Run(ctx, new(Call), rowsOfLengths(length))
				if fmt.Sprint(err) != wantErr {
					t.Errorf("%d tokens: %v, want %s", length, err, wantErr)
				}
			})
			synctest.Wait()
		}
		ask(context.Background(), 1, "<nil>")
		ask(gone, 2, "context canceled")
		ask(context.Background(), 13, "13 tokens")
		ask(context.Background(), 4, "<nil>")
		leave()
		calls.Wait()
		q.Wait()
		if want := []int{1, 2, 1, 1}; !slices.Equal(runs, want) { // 13 and 4 together, then each alone
			t.Errorf("the runs have %v rows, want %v", runs, want)
		}
	})
}

func TestQueueRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 1, Runs: 2})
		begun := time.Now()
		var calls sync.WaitGroup
		for range 6 {
			calls.Go(func() {
				if _, err := q.Run(context.Background(), new(Call), rowsOfLengths(9)); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		q.Wait()
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("six runs, two at once, took %v, want 3 s", took)
		}
	})
}

func TestQueueLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []int
		q := NewQueue(slowForward(&runs), QueueOptions{BatchTokens: 4})
		var calls sync.WaitGroup
		for _, lengths := range [][]int{{3}, {4}, {2, 2}} {
			calls.Go(func() { q.Run(context.Background(), new(Call), rowsOfLengths(lengths...)) })
			synctest.Wait()
		}
		if got, want := q.Load(), (QueueLoad{Calls: 2, Rows: 3, Tokens: 8, Runs: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		calls.Wait()
		q.Wait()
		if got := q.Load(); got != (QueueLoad{}) {
			t.Errorf("%+v at the end", got)
		}
	})
}

// A model that panics fails the calls that it had, and the queue goes on.
func TestQueuePanic(t *testing.T) {
	q := NewQueue(func(rows []encoder.Row) ([]int, error) {
		if len(rows[0].IDs) == 3 {
			panic("oops")
		}
		return make([]int, len(rows)), nil
	}, QueueOptions{})
	if _, err := q.Run(t.Context(), &Call{}, rowsOfLengths(3)); err == nil || !strings.Contains(err.Error(), "panic: oops") || !strings.Contains(err.Error(), "TestQueuePanic") {
		t.Errorf("%v", err)
	}
	if values, err := q.Run(t.Context(), &Call{}, rowsOfLengths(2)); err != nil || len(values) != 1 {
		t.Errorf("%v %v", values, err)
	}
	q.Wait()
}

// After a shared run that failed, calls whose clients have gone do not run, and none does if it must fail again. Each row is observed
// once.
func TestQueueAfterAFailedRun(t *testing.T) {
	for _, x := range []struct {
		err   error
		runs  []int // how many rows each has
		calls []int // that are observed
	}{
		{errors.New("a wrong text"), []int{1, 3, 1, 1}, []int{1, 1, 1}},
		{fmt.Errorf("scoring: %w", runtime.ErrOutOfMemory), []int{1, 3}, []int{1, 3}},
		{errors.Join(&changedError{"weights"}), []int{1, 3}, []int{1, 3}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var runs, observed []int
			forward := func(rows []encoder.Row) ([]int, error) {
				time.Sleep(time.Second)
				if runs = append(runs, len(rows)); len(rows) > 1 {
					return nil, x.err
				}
				return make([]int, len(rows)), nil
			}
			q := NewQueue(forward, QueueOptions{BatchTokens: 100, Observe: func(r QueueRun) { observed = append(observed, r.Calls) }})
			gone, leave := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			for _, ctx := range []context.Context{t.Context(), t.Context(), gone, t.Context()} {
				calls.Go(func() { q.Run(ctx, new(Call), rowsOfLengths(2)) })
				synctest.Wait()
			}
			time.Sleep(1500 * time.Millisecond) // the shared run goes on
			leave()
			calls.Wait()
			q.Wait()
			if !slices.Equal(runs, x.runs) || !slices.Equal(observed, x.calls) {
				t.Errorf("%v: runs of %v rows, want %v; observed %v calls, want %v", x.err, runs, x.runs, observed, x.calls)
			}
		})
	}
}
