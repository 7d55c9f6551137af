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
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"rag-retrieval-go/internal/atomicdir"
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

// Names in a run's output folder.
const (
	ModelDir     = "model"
	ArtifactsDir = "artifacts"
	ConfigFile   = "config.yaml"
	LockFile     = ".lock" // locked while a run uses the folder
)

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

// indexKey names the settings that decide how many examples a row makes. An index of a file is valid for one such key.
func indexKey(c config.Train) string {
	return fmt.Sprint(c.Kind, c.LossType, c.NegNums > 0, c.MinLabel, c.MaxLabel, c.GroupSize)
}

// rowForms maps values of train_dataset_type and val_dataset_type to formats of rows.
var rowForms = map[string]data.Form{config.Pointwise: data.Labeled, config.Grouped: data.Grouped}

// indexFolder returns the folder, in the cache, for indices and checksums of data files. It is "" if there is no cache
// folder; then none are kept.
func indexFolder() string {
	folder, err := runtime.InHome("indices")
	if err != nil {
		return ""
	}
	return folder
}

// rowOptions returns the options for reading training rows.
func (r *Run) rowOptions() data.Options {
	c := r.Config
	return data.Options{
		LabelKey: c.TrainLabelKey, Form: rowForms[c.TrainDatasetType], FormKey: "train_dataset_type", SkipBad: c.SkipBadRows, Examples: r.task.Examples,
		Cache: indexFolder(), Key: indexKey(c), Note: r.resolver.Note,
	}
}

// openRows opens files of rows. Files on the hub are fetched first.
func (r *Run) openRows(ctx context.Context, from config.List, o data.Options) (*data.Dataset, error) {
	paths := make([]string, len(from))
	for i, ref := range from {
		var err error
		if paths[i], err = r.resolver.Data(ctx, ref); err != nil {
			return nil, err
		}
	}
	return data.Open(ctx, paths, o)
}

func (r *Run) openData(ctx context.Context) (err error) {
	c, o := r.Config, r.rowOptions()
	o.Weights = c.Weights
	if r.Data, err = r.openRows(ctx, c.TrainDataset, o); err != nil {
		return err
	}
	b := data.Batching{
		BatchSize: c.BatchSize, Accumulation: c.GradientAccumulationSteps, MinBatch: r.task.MinBatch(),
		Shuffle: c.Shuffle, Seed: c.Seed, ShuffleRate: c.ShuffleRate, Rank: r.comm.Rank(), Ranks: r.comm.Size(), Gather: r.gather,
	}
	compared := c.BatchSize // examples that are compared with one another
	if r.gather {
		compared *= r.comm.Size()
	}
	if compared < b.MinBatch {
		return fmt.Errorf("batch_size is %d, want at least %d: loss_type %s compares the examples of a batch", c.BatchSize, b.MinBatch, c.LossType)
	}
	n := r.Data.EpochLen()
	if n < b.MinBatch {
		return fmt.Errorf("an epoch of %s has one example, want at least %d: loss_type %s compares the examples of a batch", r.Data.Name(), b.MinBatch, c.LossType)
	}
	if n < b.MinJobBatch() {
		return fmt.Errorf("an epoch of %s has %d examples, want at least %d for %d ranks: loss_type %s compares the examples of a batch",
			r.Data.Name(), n, b.MinJobBatch(), b.Ranks, c.LossType)
	}
	first, err := r.Data.Example(0)
	if err != nil {
		return err
	}
	r.Notes = append(r.Notes, ignoredFields(c, first.Row)...)
	if t, ok := r.task.(Checker); ok {
		if err := t.Check(r.Data); err != nil {
			return err
		}
	}
	r.source = r.Data.Source(b, r.collate)
	r.stepsPerEpoch = b.StepsPerEpoch(r.Data.EpochLen())
	r.Steps = c.Steps(r.stepsPerEpoch)
	if r.Steps == 1 && c.Schedule(1).At(0) == 0 {
		r.Notes = append(r.Notes, "warmup_proportion: the run has one step, and the warm-up's first step has a learning rate of 0: the model will not change")
	}
	if err := r.openValidation(ctx); err != nil {
		return err
	}
	r.inputFiles, err = r.hashFiles(ctx)
	return err
}

// ignoredFields says which fields of a row the loss ignores although RAG-Retrieval would use them. In RAG-Retrieval, the
// fields of the rows choose the loss.
func ignoredFields(c config.Train, r data.Row) []string {
	if !c.Contrastive() {
		return nil
	}
	var out []string
	if r.Form() == data.Scored {
		out = append(out, fmt.Sprintf("loss_type: %s ignores the rows' \"scores\"; other losses use them", c.LossType))
	}
	if len(r.Neg) > 0 && c.NegNums == 0 {
		out = append(out, `neg_nums: with 0 the rows' "neg" is ignored`)
	}
	return out
}

// collate calls the task's Collate, from one goroutine at a time: one prepares the next training batches while another
// makes the batches of a validation.
func (r *Run) collate(b data.Batch) ([]*ortrain.Batch, error) {
	r.collateMutex.Lock()
	defer r.collateMutex.Unlock()
	return r.task.Collate(b)
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

// lockOutput locks an output folder until Close. Two runs in one folder would remove each other's checkpoints. If the file
// system has no locks, it calls warn and goes on.
func (r *Run) lockOutput(dir string, warn func(error)) error {
	l, err := filelock.Try(filepath.Join(dir, LockFile))
	r.lock = l
	var held *filelock.Held
	switch {
	case errors.As(err, &held):
		return fmt.Errorf("output_dir %s is in use by %v: wait until it ends, or name another folder", dir, held.Holder)
	case errors.Is(err, filelock.ErrNoLocks):
		warn(fmt.Errorf("output_dir is not locked against a second run: %w", err))
		return nil
	case err != nil:
		return fmt.Errorf("output_dir: %w", err)
	}
	return nil
}

// freeOutput unlocks the output folder.
func (r *Run) freeOutput() error {
	l := r.lock
	r.lock = nil
	return l.Close()
}

// Start writes the graphs and the configuration into the output folder, which must be new or empty. The configuration is that which was
// asked for, so that the file starts the same run on another machine: with provider or mixed_precision auto, the best that it has. What
// this run took is in its checkpoints and in train.json. Start calls warn for problems that do not stop the run.
func (r *Run) Start(warn func(error)) error {
	var err error
	if r.isFirst() {
		err = r.start(warn)
	}
	r.comm.Note("there is no checkpoint yet")
	return dist.Agree(r.comm, err)
}

func (r *Run) start(warn func(error)) error {
	dir := r.Config.OutputDir
	_, statErr := os.Stat(dir)
	isNew := errors.Is(statErr, fs.ErrNotExist)
	if err := r.lockNewFolder(dir, warn); err != nil {
		if isNew {
			_ = os.Remove(dir) // fails if it is not empty
		}
		return err
	}
	return r.writeInitialFiles(isNew)
}

// lockNewFolder makes a folder if needed and locks it. The folder must be empty.
func (r *Run) lockNewFolder(dir string, warn func(error)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("output_dir: %w", err)
	}
	if err := r.lockOutput(dir, warn); err != nil {
		return err
	}
	return checkEmpty(dir)
}

// CheckStart returns the error with which Start would refuse the output folder's contents. It writes nothing.
func (r *Run) CheckStart() error {
	var err error
	if r.isFirst() {
		err = checkEmpty(r.Config.OutputDir)
	}
	return dist.Agree(r.comm, err)
}

// checkEmpty returns an error if a folder has files. It may be absent.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output_dir: %w", err)
	}
	for _, e := range entries {
		if e.Name() != LockFile {
			return fmt.Errorf("output_dir %s is not empty: name a new folder, or continue the run in it with --resume", dir)
		}
	}
	return nil
}

// writeInitialFiles writes the graphs and the configuration. If that fails, it removes them again, and the folder too if
// isNew says that this run made it.
func (r *Run) writeInitialFiles(isNew bool) error {
	dir := r.Config.OutputDir
	err := func() error {
		if err := r.Set.Write(filepath.Join(dir, ArtifactsDir)); err != nil {
			return err
		}
		b, err := r.asked.YAML()
		if err != nil {
			return err
		}
		return atomicdir.WriteFile(filepath.Join(dir, ConfigFile), b)
	}()
	if err != nil {
		undo := []string{filepath.Join(dir, ArtifactsDir), filepath.Join(dir, ConfigFile)}
		if isNew {
			undo = []string{dir}
		}
		for _, p := range undo {
			err = errors.Join(err, os.RemoveAll(p))
		}
		return fmt.Errorf("writing output_dir: %w", err)
	}
	return nil
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

// saveModel writes the model with the current parameters. before and now are the validations of the base model and of this
// model, or nil.
func (r *Run) saveModel(before, now *Validation) error {
	c := modelcard.Card{
		BaseModel: r.Config.Model, Steps: r.Trainer.StepsDone(), Version: r.version,
		Data: r.Config.TrainDataset, Examples: r.Data.Len(), BatchSize: r.Config.BatchSize, LR: r.Config.LR, Precision: r.Precision(),
	}
	if n := r.Ranks(); n > 1 {
		c.Ranks = n
	}
	if before != nil && now != nil {
		c.Validation = &modelcard.Validation{
			Data: r.Config.ValDataset, Queries: len(r.validation.samples),
			MAPBefore: before.MAP, MRRBefore: before.MRR, MAP: now.MAP, MRR: now.MRR,
		}
	}
	parameters, err := r.Trainer.Parameters()
	if err != nil {
		return err
	}
	return r.task.Save(r.ModelPath(), c, r.Trainer.Layout(), parameters)
}

// ModelPath is the folder of the fine-tuned model.
func (r *Run) ModelPath() string { return filepath.Join(r.Config.OutputDir, ModelDir) }

// WriteArtifacts writes the artifact directory into dir, including a checkpoint of the untrained model.
func (r *Run) WriteArtifacts(dir string, warn func(error)) error {
	if err := r.lockNewFolder(dir, warn); err != nil {
		return err
	}
	if err := r.Set.Write(dir); err != nil {
		return err
	}
	return r.checkpoints(dir).Save(r.Trainer, r.state())
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
