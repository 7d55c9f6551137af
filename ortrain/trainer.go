package ortrain

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// Config is how a Trainer trains.
type Config struct {
	Schedule    optim.Schedule
	AdamW       optim.AdamW
	MaxGradNorm float64 // gradients are scaled down to this global norm; 0 means no clipping
	Seed        uint64  // of dropout
	Profile     string  // prefix of ONNX Runtime's profile of the training graph; empty: none
	// Session says where and how the sessions run; the trainer sets Training, and Profile of the training graph's.
	Session runtime.Options
}

// Trainer holds a model in training: its sessions and its flat blocks of parameters, gradients and both moments.
//
//	t, err := ortrain.NewTrainer(set, cfg)
//	defer t.Close()
//	err = t.Fill(read)                 // weights, in set.Layout's order
//	err = t.Run(ctx, source, hooks...) // or t.Step(batches) one by one
//	trained, err := t.Parameters()
//
// It is used by one goroutine at a time.
type Trainer struct {
	cfg   Config
	set   *artifact.Set
	step  int               // steps done
	scale *optim.LossScaler // nil where the loss is not scaled
	saved int               // the step of the newest checkpoint; -1: none
	// fitted is the most tokens that were computed at once.
	fitted int

	// The memory that the sessions compute in holds all of these.
	parameters, gradients *runtime.Block
	moments               [2]*runtime.Block
	accumulated           *runtime.Block             // of the micro-batches of a step; nil until a step has two
	tables                map[float64]*runtime.Block // dropout factors by rate

	training, eval *runtime.Session // nil where batches are chunked
	trainBinding   *runtime.Binding
	evalBinding    *runtime.Binding
	chunks         *chunks // nil where batches are encoded whole
	loss           *runtime.Scalar[float32]
	optimizer      *optimizer
	tensors        []*runtime.Tensor // views that the bindings read
}

// Step is what one optimizer step reports.
type Step struct {
	Step         int     // counted from 1
	Total        int     // steps of the run
	Loss         float64 // mean over the step's rows
	GradNorm     float64 // before clipping; 0 of a skipped step
	LearningRate float64
	Rows, Tokens int
	// LossScale is what the loss was multiplied by; 0 where it was not. Skipped counts the steps of the run so far, this
	// one included, that overflowed and changed no parameter.
	LossScale float64
	Skipped   int
	// Idle is the place of a row in a micro-batch in which the loss had nothing to tell apart; empty: there was none.
	Idle string
}

// NewTrainer makes the sessions and blocks. All parameters are zero until the caller fills them.
func NewTrainer(set *artifact.Set, cfg Config) (*Trainer, error) {
	if err := cfg.Schedule.Validate(); err != nil {
		return nil, err
	}
	t := &Trainer{cfg: cfg, set: set, saved: -1, tables: map[float64]*runtime.Block{}}
	if set.Scaled {
		t.scale = optim.NewLossScaler()
	}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Trainer) open() (err error) {
	n := int(t.set.Layout.Total)
	for _, b := range []**runtime.Block{&t.parameters, &t.gradients, &t.moments[0], &t.moments[1]} {
		if *b, err = t.device().NewBlock(n); err != nil {
			return fmt.Errorf("parameters, gradients and two moments take %.2f GB: %w", 16*float64(n)/1e9, err)
		}
	}
	if t.loss, err = runtime.NewScalar[float32](); err != nil {
		return err
	}
	if t.set.Chunks != nil {
		if t.chunks, err = openChunks(t); err != nil {
			return err
		}
	} else if err = t.openTraining(); err != nil {
		return err
	}
	t.optimizer, err = newOptimizer(t)
	return err
}

// options are those of the sessions of a step.
func (t *Trainer) options() runtime.Options {
	o := t.cfg.Session
	o.Training = true
	return o
}

// device is where the trainer's blocks lie.
func (t *Trainer) device() *runtime.Device { return t.cfg.Session.Device }

func (t *Trainer) openTraining() (err error) {
	o := t.options()
	o.Profile = t.cfg.Profile
	if t.training, t.trainBinding, err = t.session(t.set.Training, o); err != nil {
		return err
	}
	if err = t.trainBinding.Output(artifact.LossOutput, &t.loss.Tensor); err != nil {
		return err
	}
	return t.bindGradients(t.trainBinding)
}

// session opens a graph that reads the parameters.
func (t *Trainer) session(model []byte, o runtime.Options) (s *runtime.Session, b *runtime.Binding, err error) {
	if s, err = runtime.NewSession(model, o); err != nil {
		return nil, nil, err
	}
	if b, err = s.NewBinding(); err != nil {
		return s, nil, err
	}
	return s, b, t.bindViews(b, t.parameters, "", (*runtime.Binding).Input)
}

// bindGradients makes a graph write the parameters' gradients.
func (t *Trainer) bindGradients(b *runtime.Binding) error {
	return t.bindViews(b, t.gradients, artifact.GradientSuffix, (*runtime.Binding).Output)
}

// Parameters gives the parameters, laid out as the artifact's Layout says. They may share the trainer's memory: they are
// read only, and valid until the next step.
func (t *Trainer) Parameters() ([]float32, error) { return read(t.parameters) }

// BindParameter makes a graph read a parameter, by its name, where the trainer has it.
func (t *Trainer) BindParameter(b *runtime.Binding, name string) error {
	offset, dims, err := t.set.Layout.Find(name)
	if err != nil {
		return err
	}
	return b.View(name, t.parameters, offset, dims...)
}

// Session are the options that the trainer's sessions run with, its device's memory among them.
func (t *Trainer) Session() runtime.Options { return t.cfg.Session }

// Fill sets the parameters to what fill writes into a buffer of the layout, which it must write whole.
func (t *Trainer) Fill(fill func(l *flat.Layout, parameters []float32) error) error {
	return write(t.parameters, func(values []float32) error { return fill(t.set.Layout, values) })
}

// Layout says where each parameter lies in Parameters.
func (t *Trainer) Layout() *flat.Layout { return t.set.Layout }

// StepsDone counts the optimizer steps so far, those of a resumed run included.
func (t *Trainer) StepsDone() int { return t.step }

// Total is the length of the run in steps.
func (t *Trainer) Total() int { return t.cfg.Schedule.Total }

// Step does one optimizer step on the micro-batches of one batch. Their gradients add up to that of the row-weighted
// mean of their losses. Where no row counts, loss and gradient are zero, and AdamW goes on by its momentum, as PyTorch's.
func (t *Trainer) Step(batches []*Batch) (Step, error) {
	s := Step{Step: t.step + 1, Total: t.cfg.Schedule.Total, LearningRate: t.cfg.Schedule.At(t.applied())}
	for _, b := range batches {
		s.Rows += b.Rows
		s.Tokens += b.Tokens
		if b.Idle && s.Idle == "" && b.Origin != nil {
			s.Idle = b.Origin()[0]
		}
	}
	if len(batches) == 0 {
		return s, fmt.Errorf("step %d has no batch", s.Step)
	}
	if t.scale != nil {
		s.LossScale = t.scale.Factor()
	}
	gradients, err := t.backward(batches, &s)
	if errors.Is(err, runtime.ErrMemory) {
		return s, t.outOfMemory(s, batches, err)
	}
	if err != nil {
		return s, fmt.Errorf("step %d: %w", s.Step, err)
	}
	t.fitted = max(t.fitted, largest(batches).Tokens)
	if err := t.update(gradients, &s, batches); err != nil {
		return s, err
	}
	t.step++
	return s, nil
}

// update applies a step's gradients, or skips the step where scaling them was too much.
func (t *Trainer) update(gradients *runtime.Block, s *Step, batches []*Batch) (err error) {
	unscale := 1 / t.scale.Factor()
	norm, err := t.optimizer.norm(gradients)
	if err != nil {
		return err
	}
	s.GradNorm = norm * unscale
	defer func() { s.Skipped = t.scale.SkippedSteps() }()
	if !finite(s.Loss + s.GradNorm) {
		// The scale is of the gradients alone: a loss that overflows would do so at any.
		if finite(s.Loss) && t.scale.Overflowed() {
			s.GradNorm = 0
			return nil
		}
		return t.overflow(*s, batches)
	}
	scale := unscale
	if limit := t.cfg.MaxGradNorm; limit > 0 {
		scale *= min(1, limit/(s.GradNorm+1e-6)) // torch.nn.utils.clip_grad_norm_
	}
	t.scale.Stepped()
	return t.optimizer.apply(gradients, t.cfg.AdamW.At(t.applied()+1, s.LearningRate, scale))
}

// applied counts the steps that changed the parameters: those that the moments and the schedule have seen.
func (t *Trainer) applied() int { return t.step - t.scale.SkippedSteps() }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// backward gives the gradients of a step's micro-batches and adds up their loss.
func (t *Trainer) backward(batches []*Batch, s *Step) (*runtime.Block, error) {
	for i, b := range batches {
		share := 1 / float64(len(batches)) // of losses that are all zero
		if s.Rows > 0 {
			share = float64(b.Rows) / float64(s.Rows)
		}
		if t.chunks != nil {
			loss, err := t.chunks.backward(t, b, i, share)
			if err != nil {
				return nil, err
			}
			s.Loss += loss * share
			continue
		}
		loss, err := t.whole(b, i)
		if err != nil {
			return nil, err
		}
		s.Loss += loss * share
		if len(batches) == 1 {
			return t.gradients, nil
		}
		if err := t.optimizer.accumulate(t, i == 0, share); err != nil {
			return nil, err
		}
	}
	return t.accumulated, nil
}

// whole runs the training graph on one micro-batch, which fills the gradients, and gives its loss.
func (t *Trainer) whole(b *Batch, stream int) (float64, error) {
	if err := t.bindDropout(t.trainBinding, t.set.Dropout, stream, b.Dims, true); err != nil {
		return 0, err
	}
	if err := errors.Join(b.Bind(t.trainBinding), t.bindScale(t.trainBinding)); err != nil {
		return 0, err
	}
	if err := t.trainBinding.Run(); err != nil {
		return 0, err
	}
	return float64(t.loss.Value()), nil
}

// bindScale binds what the loss is multiplied by, where the graph reads it.
func (t *Trainer) bindScale(to *runtime.Binding) error {
	if t.scale == nil {
		return nil
	}
	return to.Floats(artifact.LossScale, []float32{float32(t.scale.Factor())}, 1)
}

// Gradients runs forward and backward pass on the micro-batches of a batch without a step: for tests and tools. The
// result is valid until the next call, and laid out as Parameters.
func (t *Trainer) Gradients(batches ...*Batch) (loss float64, gradients []float32, err error) {
	var s Step
	for _, b := range batches {
		s.Rows += b.Rows
	}
	block, err := t.backward(batches, &s)
	if err != nil {
		return 0, nil, err
	}
	if gradients, err = read(block); err != nil || t.scale == nil {
		return s.Loss, gradients, err
	}
	gradients = slices.Clone(gradients)
	for i := range gradients {
		gradients[i] /= float32(t.scale.Factor())
	}
	return s.Loss, gradients, nil
}

// EvalLoss is the loss of one batch without dropout.
func (t *Trainer) EvalLoss(b *Batch) (float64, error) {
	if t.chunks != nil {
		return t.chunks.loss(t, b, 0, false)
	}
	if t.eval == nil {
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
	if t.eval, t.evalBinding, err = t.session(t.set.Eval, t.options()); err != nil {
		return err
	}
	return t.evalBinding.Output(artifact.LossOutput, &t.loss.Tensor)
}

// Close frees all native memory.
func (t *Trainer) Close() error {
	errs := []error{t.optimizer.Close(), t.trainBinding.Close(), t.evalBinding.Close(), t.chunks.Close()}
	for _, v := range t.tensors {
		errs = append(errs, v.Close())
	}
	if t.loss != nil {
		errs = append(errs, t.loss.Close())
	}
	errs = append(errs, t.training.Close(), t.eval.Close())
	blocks := []*runtime.Block{t.parameters, t.gradients, t.moments[0], t.moments[1], t.accumulated}
	for _, table := range t.tables {
		blocks = append(blocks, table)
	}
	for _, b := range blocks {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
