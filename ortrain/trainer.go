package ortrain

import (
	"errors"
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// Config is how a Trainer trains.
type Config struct {
	Schedule    optim.Schedule
	AdamW       optim.AdamW
	MaxGradNorm float64 // gradients are scaled down to this global norm; 0 means no clipping
	Seed        uint64  // of dropout
	Threads     int     // 0: one per core
	Profile     string  // prefix of ONNX Runtime's profile of the training graph; empty: none
}

// Trainer holds a model in training: its sessions and its flat buffers of parameters, gradients and both moments.
//
//	t, err := ortrain.NewTrainer(set, cfg)
//	defer t.Close()
//	copy(t.Parameters(), weights)      // in set.Layout's order
//	err = t.Run(ctx, source, hooks...) // or t.Step(batches) one by one
//	trained := t.Parameters()
//
// It is used by one goroutine at a time.
type Trainer struct {
	cfg  Config
	set  *artifact.Set
	step int // steps done

	parameters, gradients *runtime.Buffer
	moments               [2]*runtime.Buffer
	accumulated           *runtime.Buffer             // of the micro-batches of a step; nil until a step has two
	tables                map[float64]*runtime.Buffer // dropout factors by rate

	training, eval *runtime.Session
	trainBinding   *runtime.Binding
	evalBinding    *runtime.Binding
	loss           *runtime.Scalar[float32]
	optimizer      *optimizer
	tensors        []*runtime.Tensor // views that the bindings read
}

// Step is what one optimizer step reports.
type Step struct {
	Step         int     // counted from 1
	Total        int     // steps of the run
	Loss         float64 // mean over the step's rows
	GradNorm     float64 // before clipping
	LearningRate float64
	Rows, Tokens int
}

// NewTrainer makes the sessions and buffers. All parameters are zero until the caller fills them.
func NewTrainer(set *artifact.Set, cfg Config) (*Trainer, error) {
	if err := cfg.Schedule.Validate(); err != nil {
		return nil, err
	}
	t := &Trainer{cfg: cfg, set: set}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Trainer) open() (err error) {
	n := int(t.set.Layout.Total)
	for _, b := range []**runtime.Buffer{&t.parameters, &t.gradients, &t.moments[0], &t.moments[1]} {
		if *b, err = runtime.NewBuffer(n); err != nil {
			return err
		}
	}
	o := runtime.Options{Threads: t.cfg.Threads, Training: true, Profile: t.cfg.Profile}
	if t.training, err = runtime.NewSession(t.set.Training, o); err != nil {
		return err
	}
	if t.trainBinding, err = t.training.NewBinding(); err != nil {
		return err
	}
	if t.loss, err = runtime.NewScalar[float32](); err != nil {
		return err
	}
	if err = t.trainBinding.Output(artifact.LossOutput, &t.loss.Tensor); err != nil {
		return err
	}
	if err = t.bindViews(t.trainBinding, t.parameters.Data, "", (*runtime.Binding).Input); err != nil {
		return err
	}
	if err = t.bindViews(t.trainBinding, t.gradients.Data, artifact.GradientSuffix, (*runtime.Binding).Output); err != nil {
		return err
	}
	if err = t.drawTables(); err != nil {
		return err
	}
	t.optimizer, err = newOptimizer(t)
	return err
}

// bindViews binds every tensor of a flat buffer under its name and suffix.
func (t *Trainer) bindViews(b *runtime.Binding, buffer []float32, suffix string,
	bind func(*runtime.Binding, string, *runtime.Tensor) error) error {
	return t.set.Layout.Each(buffer, func(p flat.Param, values []float32) error {
		view, err := runtime.NewTensor(values, p.Dims...)
		if err != nil {
			return fmt.Errorf("parameter %q: %w", p.Name, err)
		}
		t.tensors = append(t.tensors, view)
		return bind(b, p.Name+suffix, view)
	})
}

// drawTables fills a table of dropout factors for each rate.
func (t *Trainer) drawTables() error {
	plan := t.set.Dropout
	if plan == nil {
		return nil
	}
	t.tables = map[float64]*runtime.Buffer{}
	for _, rate := range plan.Rates {
		table, err := runtime.NewBuffer(plan.TableSize)
		if err != nil {
			return err
		}
		t.tables[rate] = table
		plan.FillTable(table.Data, t.cfg.Seed, rate)
	}
	return nil
}

// bindDropout binds every site's factors for one pass.
func (t *Trainer) bindDropout(stream int, dims map[string]int64) error {
	if t.set.Dropout == nil {
		return nil
	}
	views, err := t.set.Dropout.Views(t.cfg.Seed, t.step, stream, dims)
	if err != nil {
		return err
	}
	for _, v := range views {
		factors := t.tables[v.Rate].Data[v.Offset : v.Offset+onnx.Elements(v.Dims)]
		if err := t.trainBinding.Floats(v.Input, factors, v.Dims...); err != nil {
			return err
		}
	}
	return nil
}

// Parameters is the flat buffer of parameters, laid out as the artifact's Layout says.
func (t *Trainer) Parameters() []float32 { return t.parameters.Data }

// Layout says where each parameter lies in Parameters.
func (t *Trainer) Layout() *flat.Layout { return t.set.Layout }

// StepsDone counts the optimizer steps so far, those of a resumed run included.
func (t *Trainer) StepsDone() int { return t.step }

// Total is the length of the run in steps.
func (t *Trainer) Total() int { return t.cfg.Schedule.Total }

// Step does one optimizer step on the micro-batches of one batch. Their gradients add up to that of the row-weighted
// mean of their losses.
func (t *Trainer) Step(batches []*Batch) (Step, error) {
	s := Step{Step: t.step + 1, Total: t.cfg.Schedule.Total, LearningRate: t.cfg.Schedule.At(t.step)}
	for _, b := range batches {
		s.Rows += b.Rows
		s.Tokens += b.Tokens
	}
	if s.Rows == 0 {
		return s, fmt.Errorf("step %d has no rows", s.Step)
	}
	for i, b := range batches {
		loss, err := t.backward(b, i)
		if err != nil {
			return s, fmt.Errorf("step %d: %w", s.Step, err)
		}
		share := float64(b.Rows) / float64(s.Rows)
		s.Loss += loss * share
		if len(batches) > 1 {
			if err := t.optimizer.accumulate(t, i, share); err != nil {
				return s, err
			}
		}
	}
	gradients := t.gradients
	if len(batches) > 1 {
		gradients = t.accumulated
	}
	norm, err := t.optimizer.norm(gradients)
	if err != nil {
		return s, err
	}
	s.GradNorm = norm
	if math.IsNaN(s.Loss+norm) || math.IsInf(s.Loss+norm, 0) {
		return s, fmt.Errorf("step %d: the loss is %g and the gradient's norm %g; no parameter was changed (a lower lr may help)",
			s.Step, s.Loss, norm)
	}
	scale := 1.0
	if limit := t.cfg.MaxGradNorm; limit > 0 {
		scale = min(1, limit/(norm+1e-6)) // torch.nn.utils.clip_grad_norm_
	}
	if err := t.optimizer.apply(gradients, t.cfg.AdamW.At(t.step+1, s.LearningRate), scale); err != nil {
		return s, err
	}
	t.step++
	return s, nil
}

// backward runs the training graph on one micro-batch, which fills the gradients, and gives its loss.
func (t *Trainer) backward(b *Batch, stream int) (float64, error) {
	if err := t.bindDropout(stream, b.Dims); err != nil {
		return 0, err
	}
	if err := b.Bind(t.trainBinding); err != nil {
		return 0, err
	}
	if err := t.trainBinding.Run(); err != nil {
		return 0, err
	}
	return float64(t.loss.Value()), nil
}

// Gradients runs the training graph on one micro-batch without a step: for tests and tools. The result is the
// trainer's own buffer, laid out as Parameters.
func (t *Trainer) Gradients(b *Batch) (loss float64, gradients []float32, err error) {
	loss, err = t.backward(b, 0)
	return loss, t.gradients.Data, err
}

// EvalLoss runs the eval graph, which drops nothing, on one batch.
func (t *Trainer) EvalLoss(b *Batch) (float64, error) {
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
	o := runtime.Options{Threads: t.cfg.Threads, Training: true}
	if t.eval, err = runtime.NewSession(t.set.Eval, o); err != nil {
		return err
	}
	if t.evalBinding, err = t.eval.NewBinding(); err != nil {
		return err
	}
	if err = t.evalBinding.Output(artifact.LossOutput, &t.loss.Tensor); err != nil {
		return err
	}
	return t.bindViews(t.evalBinding, t.parameters.Data, "", (*runtime.Binding).Input)
}

// Close frees all native memory.
func (t *Trainer) Close() error {
	errs := []error{t.optimizer.Close(), t.trainBinding.Close(), t.evalBinding.Close()}
	for _, v := range t.tensors {
		errs = append(errs, v.Close())
	}
	if t.loss != nil {
		errs = append(errs, t.loss.Close())
	}
	errs = append(errs, t.training.Close(), t.eval.Close())
	buffers := []*runtime.Buffer{t.parameters, t.gradients, t.moments[0], t.moments[1], t.accumulated}
	for _, table := range t.tables {
		buffers = append(buffers, table)
	}
	for _, b := range buffers {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
