package ortrain

import (
	"context"
	"errors"
)

// Source gives the micro-batches of a step, counted from 0. It must be a pure function of the step, and is called
// by one goroutine at a time, with rising steps.
type Source func(step int) ([]*Batch, error)

// Hook watches a run. An error from one ends it.
type Hook interface {
	// OnStart is called once before the first step; t.StepsDone tells a resumed run.
	OnStart(t *Trainer) error
	// OnStep is called after each step.
	OnStep(t *Trainer, s Step) error
	// OnEnd is called once at the end, with the error that ended the run or nil, where OnStart gave no error.
	OnEnd(t *Trainer, err error) error
}

// ErrInterrupted says that the context ended the run after a whole step.
var ErrInterrupted = errors.New("interrupted")

// prefetch is how many steps' batches are prepared ahead, while the current one trains.
const prefetch = 2

type prepared struct {
	batches []*Batch
	err     error
}

// Run trains until the schedule's last step. When the context ends, the current step is finished first, and the
// error is ErrInterrupted. Batches of the next steps are prepared meanwhile.
func (t *Trainer) Run(ctx context.Context, source Source, hooks ...Hook) (err error) {
	started := 0
	defer func() { // of the hooks that started alone
		for _, h := range hooks[:started] {
			err = errors.Join(err, h.OnEnd(t, err))
		}
	}()
	for _, h := range hooks {
		if err := h.OnStart(t); err != nil {
			return err
		}
		started++
	}
	quit := make(chan struct{})
	queue := t.prepare(source, quit)
	defer func() {
		close(quit)
		for range queue { // wait for the goroutine that prepares batches
		}
	}()
	for t.step < t.cfg.Schedule.Total {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		next := <-queue
		if next.err != nil {
			return next.err
		}
		s, err := t.Step(next.batches)
		if err != nil {
			return err
		}
		for _, h := range hooks {
			if err := h.OnStep(t, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare fills a queue with the batches of the coming steps. The queue is closed when the goroutine has ended.
func (t *Trainer) prepare(source Source, quit <-chan struct{}) <-chan prepared {
	queue := make(chan prepared, prefetch-1)
	first, total := t.step, t.cfg.Schedule.Total
	go func() {
		defer close(queue)
		for step := first; step < total; step++ {
			batches, err := source(step)
			select {
			case queue <- prepared{batches, err}:
			case <-quit:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return queue
}
