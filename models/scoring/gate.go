package scoring

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Gate shares a process's cores among the queues of several models: it lets a few runs go on at once. Two models whose sessions have
// a thread for every core would otherwise have twice as many threads as there are cores.
//
// Where several models want to run, the one goes first that has used the least time, so that a small model's requests do not wait
// for as many seconds as a large one computes. A model that was idle does not save up time: it begins with the time of the model that
// runs. (Start-time fair queueing, Goyal, Vin and Cheng 1996, with seconds in place of packets.)
type Gate struct {
	tokenizing chan struct{} // one for each call that may tokenize

	mu      sync.Mutex
	free    int // runs that may begin now
	now     time.Duration
	waiting []*entry // in the order in which they came
}

// party is one queue at a gate.
type party struct {
	used   time.Duration // the time that its runs took, or what it would have used had it not been idle
	inside int           // its runs that go on or wait
}

// entry is a run that waits.
type entry struct {
	p    *party
	open chan struct{}
}

// NewGate returns a gate for so many runs at once, and for one call that tokenizes on each core.
func NewGate(runs int) *Gate {
	return &Gate{free: max(1, runs), tokenizing: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// enter asks for a run. It may begin when the entry opens; the party must leave afterwards.
func (g *Gate) enter(p *party) *entry {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.inside == 0 {
		p.used = max(p.used, g.now)
	}
	e := g.add(p)
	g.admit()
	return e
}

func (g *Gate) add(p *party) *entry {
	p.inside++
	e := &entry{p, make(chan struct{})}
	g.waiting = append(g.waiting, e)
	return e
}

// leave ends a run that took so long. With again, the party asks for its next one before others are let in, or it would seem idle.
func (g *Gate) leave(p *party, took time.Duration, again bool) (next *entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.used += took
	p.inside--
	g.free++
	if again {
		next = g.add(p)
	}
	g.admit()
	return next
}

// admit opens the gate for as many runs as may begin.
func (g *Gate) admit() {
	for g.free > 0 && len(g.waiting) > 0 {
		first := 0
		for i, e := range g.waiting {
			if e.p.used < g.waiting[first].p.used {
				first = i
			}
		}
		e := g.waiting[first]
		g.waiting = append(g.waiting[:first], g.waiting[first+1:]...)
		g.free--
		g.now = max(g.now, e.p.used)
		close(e.open)
	}
}

// tokenize calls f, which tokenizes one text, when a core is left for it. So the texts of a long request take turns with those of
// others, and no more threads than cores compete with the models. It returns the context's error if that ends.
func (g *Gate) tokenize(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g.tokenizing <- struct{}{}:
		defer func() { <-g.tokenizing }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}
