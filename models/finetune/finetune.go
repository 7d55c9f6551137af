// Package finetune runs the fine-tuning of a model of any kind. It checks model, data and settings before it writes
// anything, trains, validates, saves checkpoints and saves the model. It prints nothing: warnings and validations go to
// functions of the caller.
//
//	run, err := finetune.Prepare(ctx, cfg, embedding.NewTask, resolve.Resolver{}, version)
//	defer run.Close()
//	err = run.Start(warn) // or run.Resume(warn)
//	err = run.Train(ctx, onValidation, hooks...)
package finetune

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// Task is a model of one kind with its loss. Everything else of a run is the same for all kinds.
type Task interface {
	// Encoder returns the configuration of the model's encoder.
	Encoder() encoder.Config
	// Describe says in a line what the model makes of the encoder's states.
	Describe() string
	// Model describes the training graph.
	Model() artifact.Model
	// Fill writes the initial parameters into a flat buffer.
	Fill(l *flat.Layout, parameters []float32) error
	// Examples returns how many training examples a row makes, or an error that says what is wrong with the row.
	Examples(r data.Row) (int, error)
	// MinBatch returns how many examples a batch needs at least.
	MinBatch() int
	// Collate makes the micro-batches of a batch of examples. It makes one, unless chunk_tokens splits the batch and the
	// loss allows that. It tokenizes this rank's examples only; what the loss reads of the others' is text. It is called by one
	// goroutine at a time, but not always by the same one.
	Collate(b data.Batch) ([]*ortrain.Batch, error)
	// Score scores each sample's candidates with the trainer's current parameters. The ranks share the work: all call it with the
	// same samples, and all get the scores of all. Nil: this process does all.
	Score(ctx context.Context, t *ortrain.Trainer, ranks *dist.Dealer, samples []mteb.Sample) ([][]float32, error)
	// Save writes the model with these parameters as a folder. The card has the fields of the run; Save adds the model's.
	Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error
	Close() error
}

// Checker is a Task that also checks the data set as a whole before a run starts.
type Checker interface{ Check(d *data.Dataset) error }

// Gatherer is a Task with a loss that can compare each query with the passages of all ranks of a job. Gather makes Model and
// Collate do so. It is called where config.Train.Gathers.
type Gatherer interface{ Gather() }

// NewTask opens the base model of a configuration.
type NewTask func(c config.Train) (Task, error)

// Noter is a Task that has something to say to the user after Fill, such as which tensors are new.
type Noter interface{ Notes() []string }

// Run is a prepared fine-tuning run. Model, data and settings have been checked.
type Run struct {
	Config  config.Train
	Data    *data.Dataset
	Trainer *ortrain.Trainer
	Steps   int // of the whole run
	Set     *artifact.Set
	Notes   []string // which settings have no effect here, what of the base model is new, and why

	asked         config.Train    // before anything in it was settled for this machine
	unit          kernels.Unit    // that computes the encoder's products on the CPU; None: float32, or CUDA
	comm          dist.Comm       // with the other ranks of the job
	places        []dist.Place    // of all ranks
	gather        bool            // the loss compares each query with the passages of all ranks
	device        *runtime.Device // nil on the CPU
	resolver      resolve.Resolver
	task          Task
	collateMutex  sync.Mutex // held while task.Collate runs
	source        ortrain.Source
	stepsPerEpoch int         // steps
	inputFiles    []inputFile // names and checksums of the files, for checkpoints
	modelFiles    []inputFile // of the base model, in a job of several ranks or where a part is frozen
	validation    *validator  // nil without val_dataset
	version       string
	lock          *filelock.Lock // of the output folder, while the run uses it
}

// Prepare opens model and data, which the resolver finds, and builds the graphs. It writes nothing. version is the program's
// version, for the model card.
func Prepare(ctx context.Context, c config.Train, open NewTask, from resolve.Resolver, version string) (*Run, error) {
	return prepare(ctx, c, open, from, version, true, dist.Alone{})
}

// PrepareGraphs is Prepare without training data, for WriteArtifacts.
func PrepareGraphs(ctx context.Context, c config.Train, open NewTask, from resolve.Resolver, version string) (*Run, error) {
	if len(c.TrainDataset) == 0 {
		c.TrainDataset = config.List{"none"} // not read
	}
	return prepare(ctx, c, open, from, version, false, dist.Alone{})
}

func prepare(ctx context.Context, c config.Train, open NewTask, from resolve.Resolver, version string, withData bool, comm dist.Comm) (*Run, error) {
	places, err := dist.Places(comm) // before anything that can fail on one rank only
	if err != nil {
		return nil, err
	}
	r := &Run{Config: c, asked: c, resolver: from, version: version, comm: comm, places: places}
	if err := r.settlePrecision(r.resolve()); err != nil {
		return nil, err
	}
	if err := r.open(ctx, open, withData); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// resolve checks the settings and finds the provider.
func (r *Run) resolve() (err error) {
	if err := r.Config.Validate(); err != nil {
		return err
	}
	if err := r.checkGPUs(); err != nil {
		return err
	}
	r.Notes, err = r.Config.Resolve(r.sessionOptions().DeviceID)
	return err
}

func (r *Run) open(ctx context.Context, open NewTask, withData bool) (err error) {
	c := r.Config
	if c.ShardOptimizer && r.comm.Size() == 1 {
		r.Notes = append(r.Notes, "shard_optimizer: there is one rank, which keeps all of the moments")
	}
	base := c
	if base.Model, err = r.resolver.Model(ctx, c.Model); err != nil {
		return err
	}
	if r.task, err = open(base); err != nil {
		return err
	}
	if r.comm.Size() > 1 || c.LoraRank > 0 || len(c.Freeze) > 0 {
		if r.modelFiles, err = hashModel(ctx, base.Model); err != nil {
			return err
		}
	}
	if g, ok := r.task.(Gatherer); ok && c.Gathers(r.comm.Size()) {
		g.Gather()
		r.gather = true
	}
	r.Steps = c.Steps(1)
	if withData {
		if err := r.openData(ctx); err != nil {
			return err
		}
	}
	if r.Set, err = artifact.Build(r.task.Model(), c.AdamW()); err != nil {
		return err
	}
	if r.Set.Layout.Trained == 0 {
		return fmt.Errorf("freeze names all parts of the model: nothing is left to train")
	}
	r.Notes = append(r.Notes, trainedNotes(c, r.Set.Layout)...)
	r.Notes = append(r.Notes, adapterNotes(base, r.task.Encoder())...)
	session := r.sessionOptions()
	if c.Provider == runtime.CUDA {
		if r.device, err = runtime.OpenDevice(session); err != nil {
			return err
		}
		session.Device = r.device
	}
	r.Trainer, err = ortrain.NewTrainer(r.Set, ortrain.Config{
		Schedule: c.Schedule(r.Steps), AdamW: c.AdamW(), MaxGradNorm: c.MaxGradNorm, Seed: c.Seed,
		Profile: r.profilePrefix(), Session: session, Comm: r.comm, ShardOptimizer: c.ShardOptimizer, Gather: r.gather, CheckSteps: c.CheckSteps,
	})
	if err != nil {
		return err
	}
	if err := r.Trainer.Fill(r.task.Fill); err != nil {
		return err
	}
	if t, ok := r.task.(Noter); ok {
		r.Notes = append(r.Notes, t.Notes()...)
	}
	return nil
}

// Close frees everything.
func (r *Run) Close() error {
	var errs []error
	if r.Trainer != nil {
		errs = append(errs, r.Trainer.Close())
	}
	errs = append(errs, r.device.Close())
	errs = append(errs, r.Data.Close())
	if r.validation != nil {
		errs = append(errs, r.validation.data.Close())
	}
	if r.task != nil {
		errs = append(errs, r.task.Close())
	}
	return errors.Join(append(errs, r.lock.Close())...)
}

// Train trains to the last step and saves the model: the last one, or the best one if there is validation data. When ctx
// ends, it finishes the current step, saves a checkpoint and returns ortrain.ErrInterrupted. It calls onValidation after
// each validation. In a job of several ranks, all of them call it with the same number of hooks, and only those of rank 0 are
// called.
func (r *Run) Train(ctx context.Context, onValidation func(Validation) error, hooks ...ortrain.Hook) error {
	return dist.Agree(r.comm, r.train(ctx, onValidation, hooks))
}

// train runs on every rank: training and saving use collective operations. Its ways to end depend only on the error of
// Trainer.Run, whose kind is the same on all ranks.
func (r *Run) train(ctx context.Context, onValidation func(Validation) error, hooks []ortrain.Hook) error {
	first := &firstLoss{r: r}
	err := r.Trainer.Run(ctx, first.source, r.hooks(ctx, first, onValidation, hooks)...)
	if errors.Is(err, ortrain.ErrInterrupted) || errors.Is(err, context.Canceled) { // Canceled: during a validation
		return errors.Join(ortrain.ErrInterrupted, r.SaveCheckpoint())
	}
	if errors.Is(err, ortrain.ErrUnchanged) {
		return errors.Join(err, r.SaveCheckpoint())
	}
	if err != nil && !errors.Is(err, ortrain.ErrStopped) {
		return err
	}
	if err := r.SaveCheckpoint(); err != nil || r.validation != nil {
		return err // the validator has saved the best model
	}
	if !r.isFirst() {
		return nil
	}
	return r.saveModel(nil, nil)
}

// hooks returns the hooks of a run, as many on every rank: the first loss, the caller's, validation, checkpoints.
func (r *Run) hooks(ctx context.Context, first *firstLoss, onValidation func(Validation) error, callers []ortrain.Hook) []ortrain.Hook {
	out := []ortrain.Hook{first}
	for _, h := range callers {
		out = append(out, r.onlyFirst(h))
		if w, ok := h.(Warner); ok && r.isFirst() && r.validation == nil { // a validation looks at more than one batch
			first.tell = append(first.tell, w)
		}
	}
	if r.validation != nil {
		r.validation.ctx, r.validation.onValidation = ctx, onValidation
		out = append(out, r.validation)
	}
	return append(out, &checkpointHook{r})
}

// checkpointHook saves a checkpoint every save_steps and, with save_on_epoch_end, after every epoch. It runs on every rank.
type checkpointHook struct{ r *Run }

func (c *checkpointHook) OnStart(*ortrain.Trainer) error { return nil }

func (c *checkpointHook) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	n := c.r.Config.SaveSteps
	due := n > 0 && s.Step%n == 0 || c.r.Config.SaveOnEpochEnd == 1 && s.Step%c.r.stepsPerEpoch == 0
	if due && s.Step < s.Total {
		return c.r.SaveCheckpoint()
	}
	return nil
}

func (c *checkpointHook) OnEnd(*ortrain.Trainer, error) error { return nil }
