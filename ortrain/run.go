package ortrain

import (
	"context"
	"errors"
	goruntime "runtime"
	"time"
)

// Source returns the micro-batches of a step, counted from 0. Its result must depend only on the step, so that a resumed
// run sees the same batches. It is called with increasing steps, by one goroutine at a time.
type Source func(step int) ([]*Batch, error)

// Hook is called at the start of a run, after each step and at the end. An error from OnStart or OnStep ends the run.
type Hook interface {
	// OnStart is called once before the first step. In a resumed run, t.StepsDone is greater than 0.
	OnStart(t *Trainer) error
	// OnStep is called after each step.
	OnStep(t *Trainer, s Step) error
	// OnEnd is called once at the end with the error that ended the run, or nil. It is not called if OnStart failed.
	OnEnd(t *Trainer, err error) error
}

// ErrInterrupted is the error of a run that its context ended. The last step is complete.
var ErrInterrupted = errors.New("interrupted")

// prefetch is the number of steps whose batches are prepared while the current step trains.
const prefetch = 2

type prepared struct {
	batches []*Batch
	seconds float64 // of a processor, see Times.Preparing
	err     error
}

// Run trains until the schedule's last step. Another goroutine prepares the batches of the next steps meanwhile. When the
// context ends, Run finishes the current step and returns ErrInterrupted.
//
// In a job of several ranks, all of them call it, each with its own batches and with the same number of hooks. Rank 0's
// parameters become those of all, and ranks whose parameters differ nevertheless are an error (see Config.CheckSteps). Each hook is
// called on all ranks at the same time, so OnStart and OnStep may use collective operations; OnEnd may not. Whatever ends one rank
// ends all of them in the same step, with an error of the same kind: ErrStopped, ErrInterrupted, ErrUnchanged or another.
func (t *Trainer) Run(ctx context.Context, source Source, hooks ...Hook) (err error) {
	started := 0
	defer func() { err = t.endHooks(hooks[:started], err) }() // only hooks that started are ended
	err = t.agree(t.broadcastParameters())
	if err == nil {
		err = t.compareAtStart()
	}
	for i := 0; i < len(hooks) && err == nil; i++ {
		if err = hooks[i].OnStart(t); err == nil {
			started++
		}
		err = t.agree(err)
	}
	if err != nil {
		return err
	}
	quit := make(chan struct{})
	queue := t.prepare(source, quit)
	t.comm.take() // what came before the first step does not count
	t.transfer, t.waiting = 0, 0
	defer func() {
		close(quit)
		for range queue { // wait for the goroutine that prepares batches
		}
	}()
	for t.step < t.cfg.Schedule.Total {
		var next prepared
		err := ErrInterrupted
		begun := time.Now()
		if ctx.Err() == nil {
			next = <-queue
			err = next.err
		}
		waited := time.Since(begun)
		if err := t.agree(err); err != nil {
			return err
		}
		s, err := t.Step(next.batches)
		s.Times.Waiting, s.Times.Preparing = waited.Seconds(), next.seconds
		if err = t.agree(err); err == nil {
			err = t.compareAfterStep()
		}
		for i := 0; i < len(hooks) && err == nil; i++ {
			err = t.agree(hooks[i].OnStep(t, s))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endHooks ends the hooks of a run that err ended. It returns err and what failed in the hooks, on any rank.
func (t *Trainer) endHooks(hooks []Hook, err error) error {
	var failed error
	for _, h := range hooks {
		failed = errors.Join(failed, h.OnEnd(t, errors.Join(err, failed)))
	}
	return errors.Join(err, t.agree(failed))
}

// prepare starts a goroutine that fills a queue with the batches of the next steps. The goroutine closes the queue when it
// ends.
func (t *Trainer) prepare(source Source, quit <-chan struct{}) <-chan prepared {
	queue := make(chan prepared, prefetch-1)
	first, total := t.step, t.cfg.Schedule.Total
	go func() {
		goruntime.LockOSThread() // for threadTime
		defer goruntime.UnlockOSThread()
		defer close(queue)
		for step := first; step < total; step++ {
			begun := threadTime()
			batches, err := source(step)
			select {
			case queue <- prepared{batches, (threadTime() - begun).Seconds(), err}:
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
