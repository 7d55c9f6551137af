package ortrain

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// Step is what one optimizer step reports.
type Step struct {
	Step         int     // counted from 1
	Total        int     // steps of the run
	Loss         float64 // mean over the step's rows, of all ranks
	GradNorm     float64 // before clipping; 0 of a skipped step
	LearningRate float64
	Rows, Tokens int // of all ranks
	// Transfer and Waiting are seconds in collective operations, since Run began and before this step. Transfer is the time of
	// the rank that waited least in each step; Waiting is what the ranks spent more than it, on average.
	Transfer, Waiting float64
	Times             Times
	// LossScale is the factor that the loss was multiplied by, or 0 if the loss is not scaled.
	LossScale float64
	// Skipped counts the steps of the run so far, including this one, that overflowed and changed no parameter.
	Skipped int
	// ConstantLossRow is the source of a row in a micro-batch whose loss does not depend on the model (see
	// Batch.ConstantLoss). It is "" if there is none.
	ConstantLossRow string
}

// Step does one optimizer step on the micro-batches of one batch. The loss is the mean of their losses, weighted by rows. In a
// job of several ranks, all of them call it, each with its own micro-batches; some may have none.
// If no row counts, loss and gradient are zero, and AdamW still moves the parameters by its momentum, as PyTorch does.
func (t *Trainer) Step(batches []*Batch) (Step, error) {
	t.weights.Changed() // in the last step, or since then
	t.times = Times{}
	s := Step{Step: t.step + 1, Total: t.cfg.Schedule.Total, LearningRate: t.cfg.Schedule.At(t.appliedSteps())}
	for _, b := range batches {
		s.Rows += b.Rows
		s.Tokens += b.Tokens
		if b.ConstantLoss && s.ConstantLossRow == "" && b.Origin != nil {
			if origin := b.Origin(); len(origin) > 0 { // a rank may have no rows
				s.ConstantLossRow = origin[0]
			}
		}
	}
	if len(batches) == 0 && t.comm.Size() == 1 {
		return s, fmt.Errorf("step %d has no batch", s.Step)
	}
	if err := t.jobRows(&s); err != nil {
		return s, err
	}
	if t.lossScaler != nil {
		s.LossScale = t.lossScaler.Factor()
	}
	gradients, err := t.backward(batches, &s)
	var values []float32
	if err == nil {
		values, err = t.hostGradients(gradients)
	}
	switch {
	case errors.Is(err, runtime.ErrOutOfMemory):
		err = t.outOfMemoryError(s, batches, err)
	case err != nil:
		err = fmt.Errorf("step %d: %w", s.Step, err)
	}
	if err := dist.Agree(t.comm, err, ErrUnchanged); err != nil {
		return s, err
	}
	if len(batches) > 0 {
		t.mostTokens = max(t.mostTokens, largestPass(batches).Tokens)
	}
	failed := t.sumGradients(gradients, values, &s)
	if err := t.update(gradients, &s, batches, failed); err != nil {
		return s, err
	}
	t.step++
	s.Times = t.times
	return s, nil
}

// update applies the gradients of a step. If they overflowed because the loss scale is too large, it skips the step. failed is the
// error of summing the gradients: it ends all ranks.
func (t *Trainer) update(gradients *runtime.Block, s *Step, batches []*Batch, failed error) (err error) {
	unscale := 1 / t.lossScaler.Factor()
	norm, err := t.gradientNorm(gradients, failed)
	if err != nil {
		return err
	}
	s.GradNorm = norm * unscale
	defer func() { s.Skipped = t.lossScaler.SkippedSteps() }()
	if !finite(s.Loss + s.GradNorm) {
		// Only gradients are scaled, not the loss: a smaller scale does not help a loss that overflows.
		if finite(s.Loss) && t.lossScaler.Overflowed() {
			s.GradNorm = 0
			return nil
		}
		return t.overflowError(*s, batches)
	}
	scale := unscale
	if limit := t.cfg.MaxGradNorm; limit > 0 {
		scale *= min(1, limit/(s.GradNorm+1e-6)) // torch.nn.utils.clip_grad_norm_
	}
	t.lossScaler.Stepped()
	begun := time.Now()
	err = t.optimizer.apply(gradients, t.cfg.AdamW.At(t.appliedSteps()+1, s.LearningRate, scale))
	since(&t.times.Optimizer, begun)
	if !t.sharded() {
		return err
	}
	if err := dist.Agree(t.comm, err); err != nil {
		return err
	}
	return t.gatherParameters()
}

// appliedSteps is the number of steps that changed the parameters. Moments and learning-rate schedule count only these.
func (t *Trainer) appliedSteps() int { return t.step - t.lossScaler.SkippedSteps() }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// backward computes the gradients of this rank's micro-batches of a step and adds their loss to s.Loss. s.Rows are the rows of
// all ranks.
func (t *Trainer) backward(batches []*Batch, s *Step) (*runtime.Block, error) {
	t.sum = nil
	for i, b := range batches {
		total := max(s.Rows, 1) // if no row counts, all losses are zero
		if t.chunks != nil {
			loss, err := t.chunks.backward(t, b, i, total, len(batches) == 1)
			if err != nil {
				return nil, err
			}
			s.Loss += loss
			continue
		}
		share := rowShare(b, total)
		loss, err := t.runTraining(b, i)
		if err != nil {
			return nil, err
		}
		s.Loss += loss * share
		if len(batches) == 1 && t.comm.Size() == 1 {
			return t.gradients, nil
		}
		if err := t.optimizer.accumulate(t, share); err != nil {
			return nil, err
		}
	}
	if t.sum == nil { // this rank has no rows in the step
		return t.gradients, fillBlock(t.gradients, func(values []float32) error {
			clear(values)
			return nil
		})
	}
	return t.sum, nil
}

// runTraining runs the training graph on one micro-batch. It fills the gradients and returns the loss.
func (t *Trainer) runTraining(b *Batch, microBatch int) (float64, error) {
	if err := t.bindDropout(t.trainBinding, t.set.Dropout, microBatch, b.Dims, true); err != nil {
		return 0, err
	}
	if err := errors.Join(b.Bind(t.trainBinding), t.bindScale(t.trainBinding)); err != nil {
		return 0, err
	}
	if err := t.runGraph(t.trainBinding); err != nil {
		return 0, err
	}
	return float64(t.loss.Value()), nil
}

// bindScale binds the loss scale, if the graph has that input.
func (t *Trainer) bindScale(to *runtime.Binding) error {
	if t.lossScaler == nil {
		return nil
	}
	return to.Floats(artifact.LossScale, []float32{float32(t.lossScaler.Factor())}, 1)
}

// Gradients runs the forward and backward pass on the micro-batches of a batch, without an optimizer step. It serves tests
// and tools. The gradients of the trained parameters are in the order of Layout and valid until the next call.
func (t *Trainer) Gradients(batches ...*Batch) (loss float64, gradients []float32, err error) {
	t.weights.Changed()
	var s Step
	for _, b := range batches {
		s.Rows += b.Rows
	}
	block, err := t.backward(batches, &s)
	if err != nil {
		return 0, nil, err
	}
	if gradients, err = blockValues(block); err != nil || t.lossScaler == nil {
		return s.Loss, gradients, err
	}
	gradients = slices.Clone(gradients)
	for i := range gradients {
		gradients[i] /= float32(t.lossScaler.Factor())
	}
	return s.Loss, gradients, nil
}

// EvalLoss returns the loss of one batch, without dropout.
func (t *Trainer) EvalLoss(b *Batch) (float64, error) {
	if t.chunks != nil {
		return t.chunks.forward(t, dist.Alone{}, b, 0, false, max(b.Rows, 1))
	}
	if t.evalSession == nil {
		if err := t.openEval(); err != nil {
			return 0, err
		}
	}
	if err := b.Bind(t.evalBinding); err != nil {
		return 0, err
	}
	if err := t.evalBinding.Run(); err != nil {
		return 0, err
	}
	return float64(t.loss.Value()), nil
}

func (t *Trainer) openEval() (err error) {
	if t.evalSession, t.evalBinding, err = t.openSession(t.set.Eval, t.exactOptions()); err != nil {
		return err
	}
	return t.evalBinding.Output(artifact.LossOutput, &t.loss.Tensor)
}
