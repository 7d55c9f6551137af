package ortrain

import (
	"errors"
	"fmt"

	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// Data-parallel training: every rank computes the gradients of its own micro-batches, the ranks add them up, and every rank
// makes the same update. Losses and gradients are weighted by the rows of the whole job, so that ranks with different numbers
// of rows give the gradient of the mean over all rows.

// ErrStopped is the error of a hook that ends a run early but successfully. Run returns it, on all ranks of the job.
var ErrStopped = errors.New("stopped")

// jobRows replaces the rows and tokens of a step by those of all ranks.
func (t *Trainer) jobRows(s *Step) error {
	if t.comm.Size() == 1 {
		return nil
	}
	x := []float64{float64(s.Rows), float64(s.Tokens)}
	if err := t.comm.AllReduce64(x, dist.Sum); err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	s.Rows, s.Tokens = int(x[0]), int(x[1])
	return nil
}

// sumGradients adds up the ranks' gradients and losses.
func (t *Trainer) sumGradients(gradients *runtime.Block, s *Step) error {
	if t.comm.Size() == 1 {
		return nil
	}
	loss := []float64{s.Loss}
	if err := t.comm.AllReduce64(loss, dist.Sum); err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	s.Loss = loss[0]
	values, err := blockValues(gradients)
	if err != nil {
		return err
	}
	if err := t.comm.AllReduce(values, dist.Sum); err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	if gradients.Host() != nil {
		return nil // values are the block itself
	}
	return gradients.Upload(0, values)
}

// broadcastParameters gives every rank rank 0's parameters.
func (t *Trainer) broadcastParameters() error {
	if t.comm.Size() == 1 {
		return nil
	}
	return fillBlock(t.parameters, func(values []float32) error {
		if t.parameters.Host() == nil {
			if err := t.parameters.Download(0, values); err != nil {
				return err
			}
		}
		return t.comm.Broadcast(values)
	})
}

// What a rank's error means for the others, the gravest last.
const (
	goesOn = iota
	stopped
	interrupted
	failed
)

// agree makes what ends the run of one rank end all of them, at the same place: every rank calls it with its own error, or
// nil. It returns the rank's own error, or the gravest of the others.
func (t *Trainer) agree(err error) error {
	if t.comm.Size() == 1 {
		return err
	}
	outcome := []float64{goesOn}
	switch {
	case errors.Is(err, ErrStopped):
		outcome[0] = stopped
	case errors.Is(err, ErrInterrupted):
		outcome[0] = interrupted
	case err != nil:
		outcome[0] = failed
	}
	if lost := t.comm.AllReduce64(outcome, dist.Max); lost != nil {
		return errors.Join(err, lost)
	}
	switch outcome[0] {
	case stopped:
		return ErrStopped
	case interrupted:
		return ErrInterrupted
	case failed:
		if errors.Is(err, ErrStopped) || errors.Is(err, ErrInterrupted) {
			err = nil // another rank failed
		}
		return dist.Agree(t.comm, err)
	}
	return nil
}
