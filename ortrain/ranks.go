package ortrain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// Data-parallel training: every rank computes the gradients of its own micro-batches, the ranks add them up, and every rank
// makes the same update. Losses and gradients are weighted by the rows of the whole job, so that ranks with different numbers
// of rows give the gradient of the mean over all rows.

// ErrStopped is the error of a hook that ends a run early but successfully. Run returns it, on all ranks of the job.
var ErrStopped = errors.New("stopped")

// gathering connects the ranks whose passages the loss compares with each query.
func (t *Trainer) gathering() dist.Comm {
	if t.cfg.Gather {
		return t.comm
	}
	return dist.Alone{}
}

// jobRows replaces the rows and tokens of a step by those of all ranks, and adds up the times of the step before.
func (t *Trainer) jobRows(s *Step) error {
	if t.comm.Size() == 1 {
		return nil
	}
	x := make([]float64, 2+t.comm.Size()) // rows, tokens, and the seconds of each rank
	x[0], x[1], x[2+t.comm.Rank()] = float64(s.Rows), float64(s.Tokens), t.comm.take().Seconds()
	if err := t.comm.AllReduce64(x, dist.Sum); err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	s.Rows, s.Tokens = int(x[0]), int(x[1])
	t.addCollectiveTime(x[2:])
	s.Transfer, s.Waiting = t.transfer, t.waiting
	return nil
}

// hostGradients returns the values of this rank's gradients for sumGradients; nil for a job of one rank.
func (t *Trainer) hostGradients(gradients *runtime.Block) ([]float32, error) {
	if t.comm.Size() == 1 {
		return nil, nil
	}
	if host := gradients.Host(); host != nil {
		return host, nil
	}
	values := t.hostBuffer()
	return values, gradients.Download(0, values)
}

// hostBuffer returns memory for the transfers of what is trained, or its gradients, in device memory. Every step reuses it.
func (t *Trainer) hostBuffer() []float32 {
	if t.transferred == nil {
		t.transferred = make([]float32, t.set.Layout.Trained)
	}
	return t.transferred
}

// sumGradients adds up the ranks' losses and gradients, which are values, and leaves the sums in s and in the block, where a
// sharded optimizer has those of its own part only. An error of one rank must come to all of them before the next collective
// operation: see gradientNorm.
func (t *Trainer) sumGradients(gradients *runtime.Block, values []float32, s *Step) error {
	if t.comm.Size() == 1 {
		return nil
	}
	loss := []float64{s.Loss}
	if err := t.comm.AllReduce64(loss, dist.Sum); err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	s.Loss = loss[0]
	var err error
	if !t.sharded() {
		err = t.comm.AllReduce(values, dist.Sum)
	} else {
		err = t.comm.ReduceScatter(values, t.shards.counts)
	}
	if err != nil {
		return fmt.Errorf("step %d: %w", s.Step, err)
	}
	if gradients.Host() != nil {
		return nil // values are the block itself
	}
	start, end := t.ownPart()
	return gradients.Upload(int(start), values[start:end])
}

// gradientNorm returns the global L2 norm of a step's gradients, in the same bits on all ranks. failed is what failed on this rank
// before: it ends all ranks.
func (t *Trainer) gradientNorm(gradients *runtime.Block, failed error) (float64, error) {
	sum, err := 0.0, failed
	if err == nil {
		begun := time.Now()
		sum, err = t.optimizer.sumOfSquares(gradients)
		since(&t.times.Optimizer, begun)
	}
	if t.comm.Size() == 1 {
		return math.Sqrt(sum), err
	}
	all := []float64{sum, 0} // of the ranks' parts; how many ranks failed
	if err != nil {
		all[1] = 1
	}
	if lost := t.comm.AllReduce64(all, dist.Sum); lost != nil {
		return 0, errors.Join(err, lost)
	}
	if all[1] > 0 {
		return 0, dist.Agree(t.comm, err)
	}
	if t.sharded() {
		sum = all[0]
	}
	return math.Sqrt(sum), nil
}

// broadcastParameters gives every rank rank 0's parameters.
func (t *Trainer) broadcastParameters() error {
	if t.comm.Size() == 1 {
		return nil
	}
	values, err := blockValues(t.parameters)
	if err := dist.Agree(t.comm, err); err != nil {
		return err
	}
	if err := t.comm.Broadcast(values); err != nil || t.parameters.Host() != nil {
		return err
	}
	return t.parameters.Upload(0, values)
}

// What a rank's error means for the others, the gravest last.
const (
	goesOn = iota
	stopped
	interrupted
	failed
)

// agree makes what ends the run of one rank end all of them, at the same place: every rank calls it with its own error, or
// nil. It returns the rank's own error, or the gravest of the others. Whether that is ErrStopped, ErrInterrupted or ErrUnchanged
// is the same on all ranks.
func (t *Trainer) agree(err error) error {
	if t.comm.Size() == 1 {
		return err
	}
	outcome := []float64{goesOn}
	switch {
	case errors.Is(err, ErrStopped):
		outcome[0] = stopped
	case errors.Is(err, ErrInterrupted), errors.Is(err, context.Canceled): // Canceled: in a hook or the source
		outcome[0] = interrupted
	case err != nil:
		outcome[0] = failed
	}
	own := outcome[0]
	if lost := t.comm.AllReduce64(outcome, dist.Max); lost != nil {
		return errors.Join(err, lost)
	}
	switch outcome[0] {
	case stopped:
		return ErrStopped
	case interrupted:
		return ErrInterrupted
	case failed:
		if own < failed {
			err = nil // another rank failed
		}
		return dist.Agree(t.comm, err, ErrUnchanged)
	}
	return nil
}
