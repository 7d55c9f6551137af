package scoring

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rag-retrieval-go/models/encoder"
)

// timedQueue is a queue behind a gate whose runs take so long, and the time that they took together.
func timedQueue(g *Gate, run time.Duration, o QueueOptions) (*Queue[float32], *atomic.Int64) {
	used := &atomic.Int64{}
	o.Gate = g
	return NewQueue(func(rows []encoder.Row) ([]float32, error) {
		time.Sleep(run)
		used.Add(int64(run))
		return make([]float32, len(rows)), nil
	}, o), used
}

// ask has clients ask a queue for a batch of one full run, again and again until an end.
func ask(w *sync.WaitGroup, q *Queue[float32], clients int, end time.Time) {
	for range clients {
		w.Go(func() {
			for time.Now().Before(end) {
				q.Run(context.Background(), new(Call), rowsOfLengths(16))
			}
		})
	}
}

// Busy models get the same time, however long their runs are and however many clients they have; one that was idle has no more.
func TestGateSharesTime(t *testing.T) {
	for _, runs := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGate(runs)
			large, largeUsed := timedQueue(g, 4*time.Second, QueueOptions{BatchTokens: 16, Runs: runs})
			small, smallUsed := timedQueue(g, time.Second, QueueOptions{BatchTokens: 16, Runs: runs})
			var w sync.WaitGroup
			ask(&w, large, 9, time.Now().Add(1000*time.Second))
			time.Sleep(400 * time.Second) // large alone
			if alone := time.Duration(largeUsed.Load()); alone < time.Duration(runs)*396*time.Second {
				t.Errorf("%d at once: alone, the large model ran %v of 400 s", runs, alone)
			}
			largeUsed.Store(0)
			ask(&w, small, 3, time.Now().Add(400*time.Second))
			time.Sleep(400 * time.Second)
			a, b := time.Duration(largeUsed.Load()), time.Duration(smallUsed.Load())
			if d := (a - b).Abs(); d > 16*time.Second || a+b < time.Duration(runs)*390*time.Second {
				t.Errorf("%d at once: the models ran %v and %v of %d s", runs, a, b, 400*runs)
			}
			w.Wait()
		})
	}
}

// A call that finds a core free waits for nothing, and no more runs go on than the gate lets.
func TestGateIdleAndFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2)
		var now, most atomic.Int32
		var queues []*Queue[float32]
		for range 3 {
			queues = append(queues, NewQueue(func(rows []encoder.Row) ([]float32, error) {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
				return make([]float32, len(rows)), nil
			}, QueueOptions{BatchTokens: 16, Runs: 2, Gate: g}))
		}
		for i := range 2 {
			begun := time.Now()
			var w sync.WaitGroup
			w.Go(func() { queues[0].Run(context.Background(), new(Call), rowsOfLengths(16)) })
			w.Go(func() { queues[i].Run(context.Background(), new(Call), rowsOfLengths(16)) })
			w.Wait()
			if took := time.Since(begun); took != time.Second {
				t.Errorf("two calls with two free cores took %v, want 1 s", took)
			}
		}
		var w sync.WaitGroup
		for _, q := range queues {
			ask(&w, q, 4, time.Now().Add(20*time.Second))
		}
		w.Wait()
		if most.Load() != 2 {
			t.Errorf("%d runs went on at once, want 2", most.Load())
		}
	})
}

// Whatever comes when: every call ends; none takes longer than if it shared the model equally with all others; and the model is
// never idle while a call waits.
func TestQueueStarvesNobody(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			const batch = 64
			var busy time.Duration
			q := NewQueue(func(rows []encoder.Row) ([]float32, error) {
				tokens := 0
				for _, x := range rows {
					tokens += len(x.IDs)
				}
				took := time.Duration(1+tokens) * time.Millisecond
				time.Sleep(took)
				busy += took
				return make([]float32, len(rows)), nil
			}, QueueOptions{BatchTokens: batch})
			begun, clients := time.Now(), 2+r.IntN(20)
			var w sync.WaitGroup
			for c := range clients {
				long := c%4 == 0
				sizes := make([]int, 5) // of the client's calls
				for i := range sizes {
					if sizes[i] = 1 + r.IntN(16); long {
						sizes[i] = 1 + r.IntN(10)*batch
					}
				}
				w.Go(func() {
					for _, n := range sizes {
						asked := time.Now()
						x := batching[float32]{tokens: batch, queue: q}
						rows := rowsOfLengths()
						for ; n > 0; n -= 8 {
							rows = append(rows, rowsOfLengths(min(n, 8))...)
						}
						if _, err := x.run(context.Background(), rows, nil, func([]int) {}); err != nil {
							t.Error(err)
						}
						own := time.Duration(len(rows)*9) * time.Millisecond
						if took, most := time.Since(asked), time.Duration(clients)*(2*own+2*(batch+1)*time.Millisecond); took > most {
							t.Errorf("seed %d: a call of %d rows took %v beside %d clients, want at most %v", seed, len(rows), took, clients-1, most)
						}
					}
				})
			}
			w.Wait()
			if took := time.Since(begun); took != busy {
				t.Errorf("seed %d: the model ran %v of %v", seed, busy, took)
			}
		})
	}
}

// A short call does not wait until every long one has had a full batch.
func TestShortCallsPassLongOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := timedQueue(NewGate(1), time.Second, QueueOptions{BatchTokens: 16})
		var w sync.WaitGroup
		ask(&w, q, 40, time.Now().Add(200*time.Second))
		time.Sleep(100500 * time.Millisecond)
		asked := time.Now()
		q.Run(context.Background(), new(Call), rowsOfLengths(4))
		if took := time.Since(asked); took > 15*time.Second {
			t.Errorf("a short call waited %v behind 40 calls of a second each", took)
		}
		w.Wait()
	})
}

// Tokenizing stops when the context ends, and takes no more cores than there are.
func TestTokenizeEach(t *testing.T) {
	q := NewQueue(func([]encoder.Row) ([]float32, error) { return nil, nil }, QueueOptions{})
	var now, most atomic.Int32
	var w sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		w.Go(func() {
			err := tokenizeEach(context.Background(), q, nil, 20, func(int) error {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				runtime.Gosched()
				now.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	w.Wait()
	if n := int(most.Load()); n > runtime.GOMAXPROCS(0) {
		t.Errorf("%d calls tokenized at once on %d cores", n, runtime.GOMAXPROCS(0))
	}
	for _, q := range []*Queue[float32]{q, nil} {
		ctx, cancel := context.WithCancel(context.Background())
		texts := 0
		err := tokenizeEach(ctx, q, nil, 1000, func(i int) error {
			if texts++; texts == 3 {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || texts != 3 {
			t.Errorf("%d texts, %v", texts, err)
		}
		wrong := fmt.Errorf("text 2")
		if err := tokenizeEach(context.Background(), q, nil, 5, func(i int) error {
			if i == 2 {
				return wrong
			}
			return nil
		}); err != wrong {
			t.Error(err)
		}
	}
}
