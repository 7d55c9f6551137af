package ortrain

import (
	"errors"
	"fmt"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// Config holds the settings of a Trainer.
type Config struct {
	Schedule    optim.Schedule
	AdamW       optim.AdamW
	MaxGradNorm float64 // gradients are scaled down to this global norm; 0 means no clipping
	Seed        uint64  // of dropout
	Profile     string  // file prefix of ONNX Runtime's profile of the training graph; "" means no profile
	// Session holds the device, threads and so on of the sessions. The trainer sets Training, and Profile of the training
	// graph's session. BF16 is for the encoder in training; losses and validations are in float32.
	Session runtime.Options
	// Gather makes the loss of a model with an artifact.Comparison compare each query with the passages of all ranks. All ranks
	// must then have the same number of micro-batches; a rank without rows has one without queries and passages.
	Gather bool
	// ScoresPerBlock bounds the scores that such a loss has in memory; 0 means 16 Mi.
	ScoresPerBlock int
	// Comm connects the ranks of a data-parallel job; nil means dist.Alone. All ranks must be made with the same set and the
	// same other settings.
	Comm dist.Comm
	// ShardOptimizer keeps on each rank of a job only its part of the moments (ZeRO stage 1).
	ShardOptimizer bool
	// CheckSteps is how often the ranks of a job compare their parameters, in steps; 0 means never.
	CheckSteps int
}

// Trainer trains one model. It holds the sessions and the flat blocks of parameters, gradients and both moments.
//
//	t, err := ortrain.NewTrainer(set, cfg)
//	defer t.Close()
//	err = t.Fill(read)                 // weights, in set.Layout's order
//	err = t.Run(ctx, source, hooks...) // or t.Step(batches) one by one
//	trained, err := t.Parameters()
//
// It is used by one goroutine at a time.
type Trainer struct {
	cfg        Config
	set        *artifact.Set
	comm       *timedComm
	shards     *shards           // the ranks' parts of the blocks
	step       int               // steps done
	lossScaler *optim.LossScaler // nil where the loss is not scaled
	savedStep  int               // the step of the newest checkpoint; -1 if there is none
	// mostTokens is the largest number of tokens that one pass has computed so far.
	mostTokens int
	// transfer and waiting are the job's seconds in collective operations; see Step.
	transfer, waiting float64
	times             Times // of the current step

	// All blocks lie in the memory of the sessions' device.
	parameters, gradients *runtime.Block
	moments               [2]*runtime.Block          // of ownPart
	accumulated           *runtime.Block             // the step's sum of gradients; nil until a step has two micro-batches
	sum                   *runtime.Block             // where this step's sum is: accumulated or gradients; nil before it has any
	dropoutTables         map[float64]*runtime.Block // dropout factors by rate
	weights               *runtime.Weights           // the parameters, for the sessions that read them
	transferred           []float32                  // see hostBuffer

	trainSession, evalSession *runtime.Session // nil where batches are chunked
	trainBinding              *runtime.Binding
	evalBinding               *runtime.Binding
	chunks                    *chunks // nil where batches are encoded whole
	loss                      *runtime.Scalar[float32]
	optimizer                 *optimizer
}

// NewTrainer opens the sessions and allocates the blocks. All parameters are zero until the caller calls Fill.
func NewTrainer(set *artifact.Set, cfg Config) (*Trainer, error) {
	if err := cfg.Schedule.Validate(); err != nil {
		return nil, err
	}
	t := &Trainer{cfg: cfg, set: set, comm: &timedComm{Comm: cfg.Comm}, savedStep: -1, dropoutTables: map[float64]*runtime.Block{}}
	if cfg.Comm == nil {
		t.comm.Comm = dist.Alone{}
	}
	t.weights = runtime.NewWeights(func(name string) bool {
		_, _, err := set.Layout.Find(name)
		return err == nil
	})
	t.shards = newShards(set.Layout.Trained, t.comm.Rank(), t.comm.Size())
	if set.Scaled {
		t.lossScaler = optim.NewLossScaler()
	}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Trainer) open() (err error) {
	all, trained := int(t.set.Layout.Total), int(t.set.Layout.Trained)
	start, end := t.ownPart()
	own := int(end - start)
	for _, b := range []struct {
		block **runtime.Block
		n     int
	}{{&t.parameters, all}, {&t.gradients, trained}, {&t.moments[0], own}, {&t.moments[1], own}} {
		if *b.block, err = t.device().NewBlock(b.n); err != nil {
			return fmt.Errorf("parameters, gradients and two moments take %.2f GB: %w", 4*float64(all+trained+2*own)/1e9, err)
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

// trainingOptions are the options of the sessions that a step runs.
func (t *Trainer) trainingOptions() runtime.Options {
	o := t.cfg.Session
	o.Training = true
	o.Weights = t.weights
	return o
}

// exactOptions are trainingOptions with all products in float32, for losses and validations.
func (t *Trainer) exactOptions() runtime.Options {
	o := t.trainingOptions()
	o.BF16 = kernels.None
	return o
}

// device is the device whose memory holds the trainer's blocks.
func (t *Trainer) device() *runtime.Device { return t.cfg.Session.Device }

func (t *Trainer) openTraining() (err error) {
	o := t.trainingOptions()
	o.Profile = t.cfg.Profile
	if t.trainSession, t.trainBinding, err = t.openSession(t.set.Training, o); err != nil {
		return err
	}
	if err = t.trainBinding.Output(artifact.LossOutput, &t.loss.Tensor); err != nil {
		return err
	}
	return t.bindGradients(t.trainBinding)
}

// openSession opens a session for a graph and binds the parameters as its inputs.
func (t *Trainer) openSession(model []byte, o runtime.Options) (s *runtime.Session, b *runtime.Binding, err error) {
	if s, err = runtime.NewSession(model, o); err != nil {
		return nil, nil, err
	}
	if b, err = s.NewBinding(); err != nil {
		return s, nil, err
	}
	return s, b, t.bindParameters(b)
}

// bindParameters binds the parameters as the inputs of a graph.
func (t *Trainer) bindParameters(b *runtime.Binding) error {
	return t.bindViews(b, t.parameters, t.set.Layout.Params, "", (*runtime.Binding).View)
}

// bindGradients binds the outputs of a graph that are the trained parameters' gradients.
func (t *Trainer) bindGradients(b *runtime.Binding) error {
	return t.bindViews(b, t.gradients, t.set.Layout.TrainedParams(), artifact.GradientSuffix, (*runtime.Binding).OutputView)
}

// Parameters returns the parameters in the order of Layout. The slice may share the trainer's memory: the caller must not
// change it, and it is valid until the next step.
func (t *Trainer) Parameters() ([]float32, error) { return blockValues(t.parameters) }

// BindParameter binds a parameter as the graph input of the same name, without a copy.
func (t *Trainer) BindParameter(b *runtime.Binding, name string) error {
	offset, dims, err := t.set.Layout.Find(name)
	if err != nil {
		return err
	}
	return b.View(name, t.parameters, offset, dims...)
}

// SessionOptions returns options with which a session of the caller computes on the trainer's device, in float32, and can read the
// parameters there.
func (t *Trainer) SessionOptions() runtime.Options {
	o := t.cfg.Session
	o.BF16 = kernels.None
	return o
}

// Fill sets the parameters. The function fill must write every element of the buffer, in the order of the layout.
func (t *Trainer) Fill(fill func(l *flat.Layout, parameters []float32) error) error {
	return fillBlock(t.parameters, func(values []float32) error { return fill(t.set.Layout, values) })
}

// Layout returns the position of each parameter in Parameters.
func (t *Trainer) Layout() *flat.Layout { return t.set.Layout }

// StepsDone is the number of optimizer steps so far, including the steps before a resume.
func (t *Trainer) StepsDone() int { return t.step }

// TotalSteps is the number of steps of the whole run.
func (t *Trainer) TotalSteps() int { return t.cfg.Schedule.Total }

// Close frees all native memory.
func (t *Trainer) Close() error {
	errs := []error{t.optimizer.Close(), t.trainBinding.Close(), t.evalBinding.Close(), t.chunks.Close()}
	if t.loss != nil {
		errs = append(errs, t.loss.Close())
	}
	errs = append(errs, t.trainSession.Close(), t.evalSession.Close())
	blocks := []*runtime.Block{t.parameters, t.gradients, t.moments[0], t.moments[1], t.accumulated}
	for _, table := range t.dropoutTables {
		blocks = append(blocks, table)
	}
	for _, b := range blocks {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
