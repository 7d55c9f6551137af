// Package finetune runs the fine-tuning of a model of any kind: it checks everything before it writes anything, trains,
// keeps the state that a run goes on from, and saves the model.
//
//	run, err := finetune.Prepare(ctx, cfg, embedding.NewTask, version)
//	defer run.Close()
//	err = run.Start(say)              // or run.Resume(say)
//	err = run.Train(ctx, hooks...)
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
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// Task is a model of some kind with its loss: what tells one fine-tuning from another.
type Task interface {
	// Encoder is the model's encoder.
	Encoder() encoder.Config
	// Model describes the training graph.
	Model() artifact.Model
	// Fill puts the parameters that training starts from into a flat buffer.
	Fill(l *flat.Layout, parameters []float32) error
	// Examples says how many training examples a row makes, or what is wrong with it.
	Examples(r data.Row) (int, error)
	// MinBatch is how many examples a batch needs.
	MinBatch() int
	// Collate makes the micro-batches of a batch of examples, one unless chunk_tokens can split it without loss. It is
	// called by one goroutine at a time, which is not always the same one.
	Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error)
	// Score scores each sample's candidates with the parameters that the trainer has now.
	Score(ctx context.Context, t *ortrain.Trainer, samples []mteb.Sample) ([][]float32, error)
	// Save writes the model with these parameters as a folder; the card's fields of the run are filled in.
	Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error
	Close() error
}

// Checker is a Task that holds the training data against something else before a run starts.
type Checker interface{ Check(d *data.Dataset) error }

// NewTask opens the base model of a configuration.
type NewTask func(c config.Train) (Task, error)

// Names in a run's output folder.
const (
	ModelDir     = "model"
	ArtifactsDir = "artifacts"
	ConfigFile   = "config.yaml"
	LockFile     = ".lock" // while a run uses the folder
)

// Run is a fine-tuning run, opened: everything that can fail for a wrong input has been checked.
type Run struct {
	Config  config.Train
	Data    *data.Dataset
	Trainer *ortrain.Trainer
	Steps   int // of the whole run
	Set     *artifact.Set
	Notes   []string // what of the configuration does not hold here, and why

	device     *runtime.Device // nil where the host computes
	task       Task
	collating  sync.Mutex // while task.Collate runs
	source     ortrain.Source
	perEpoch   int        // steps
	files      []trained  // what a checkpoint keeps of the files
	validation *validator // nil without val_dataset
	version    string
	lock       *filelock.Lock // of the output folder, while the run uses it
}

// Prepare opens model and data and builds the graphs. It writes nothing. version goes into the saved folder.
func Prepare(ctx context.Context, c config.Train, open NewTask, version string) (*Run, error) {
	return prepare(ctx, c, open, version, true)
}

// PrepareGraphs is Prepare without training data, for WriteArtifacts.
func PrepareGraphs(ctx context.Context, c config.Train, open NewTask, version string) (*Run, error) {
	if len(c.TrainDataset) == 0 {
		c.TrainDataset = config.List{"none"} // not read
	}
	return prepare(ctx, c, open, version, false)
}

func prepare(ctx context.Context, c config.Train, open NewTask, version string, withData bool) (*Run, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Run{Config: c, version: version}
	if err := r.open(ctx, open, withData); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Run) open(ctx context.Context, open NewTask, withData bool) (err error) {
	if r.Notes, err = r.Config.Resolve(); err != nil {
		return err
	}
	c := r.Config
	base := c
	if base.Model, err = resolve.Model(ctx, c.Model); err != nil {
		return err
	}
	if r.task, err = open(base); err != nil {
		return err
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
	session := c.Session()
	if c.Provider == runtime.CUDA {
		if r.device, err = runtime.OpenDevice(session); err != nil {
			return err
		}
		session.Device = r.device
	}
	r.Trainer, err = ortrain.NewTrainer(r.Set, ortrain.Config{
		Schedule: c.Schedule(r.Steps), AdamW: c.AdamW(), MaxGradNorm: c.MaxGradNorm, Seed: c.Seed,
		Profile: c.Profile, Session: session,
	})
	if err != nil {
		return err
	}
	return r.Trainer.Fill(r.task.Fill)
}

// indexKey tells what decides how many examples a row makes.
func indexKey(c config.Train) string {
	return fmt.Sprint(c.Kind, c.LossType, c.NegNums > 0, c.MinLabel, c.MaxLabel, c.GroupSize)
}

// forms are the rows that the values of train_dataset_type and val_dataset_type stand for.
var forms = map[string]data.Form{config.Pointwise: data.Labeled, config.Grouped: data.Grouped}

// indices is the cache's folder of what is known of files; empty, so that nothing is kept, where there is no cache folder.
func indices() string {
	folder, err := runtime.InHome("indices")
	if err != nil {
		return ""
	}
	return folder
}

// rowOptions say how rows are read.
func (r *Run) rowOptions() data.Options {
	c := r.Config
	return data.Options{
		LabelKey: c.TrainLabelKey, Form: forms[c.TrainDatasetType], FormKey: "train_dataset_type", SkipBad: c.SkipBadRows, Examples: r.task.Examples,
		Cache: indices(), Key: indexKey(c),
	}
}

// openRows opens files of rows, fetched if they have to be.
func (r *Run) openRows(ctx context.Context, from config.List, o data.Options) (*data.Dataset, error) {
	paths := make([]string, len(from))
	for i, ref := range from {
		var err error
		if paths[i], err = resolve.Data(ctx, ref); err != nil {
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
		Shuffle: c.Shuffle, Seed: c.Seed, ShuffleRate: c.ShuffleRate,
	}
	if c.BatchSize < b.MinBatch {
		return fmt.Errorf("batch_size is %d, want at least %d: loss_type %s compares the examples of a batch", c.BatchSize, b.MinBatch, c.LossType)
	}
	if n := r.Data.EpochLen(); n < b.MinBatch {
		return fmt.Errorf("an epoch of %s has one example, want at least %d: loss_type %s compares the examples of a batch", r.Data.Name(), b.MinBatch, c.LossType)
	}
	first, err := r.Data.Example(0)
	if err != nil {
		return err
	}
	r.Notes = append(r.Notes, unread(c, first.Row)...)
	if t, ok := r.task.(Checker); ok {
		if err := t.Check(r.Data); err != nil {
			return err
		}
	}
	r.source = r.Data.Source(b, r.collate)
	r.perEpoch = b.StepsPerEpoch(r.Data.EpochLen())
	r.Steps = c.Steps(r.perEpoch)
	if err := r.openValidation(ctx); err != nil {
		return err
	}
	r.files, err = r.sumFiles(ctx)
	return err
}

// unread says what of a row the loss does not read, and RAG-Retrieval would: there the rows choose the loss.
func unread(c config.Train, r data.Row) []string {
	if c.LossType != "infonce" && c.LossType != "contrastive" {
		return nil
	}
	var out []string
	if r.Form() == data.Scored {
		out = append(out, fmt.Sprintf("loss_type: %s does not read the scores of the rows; other losses do", c.LossType))
	}
	if len(r.Neg) > 0 && c.NegNums == 0 {
		out = append(out, `neg_nums: with 0 the rows' "neg" is not read`)
	}
	return out
}

// collate is the task's Collate for training, which prepares batches ahead, and for validation, which does not wait for it:
// one at a time.
func (r *Run) collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	r.collating.Lock()
	defer r.collating.Unlock()
	return r.task.Collate(epoch, examples)
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

// claim locks an output folder until Close: two runs in one would remove each other's checkpoints. say is told where the
// file system cannot.
func (r *Run) claim(dir string, say func(error)) error {
	l, err := filelock.Try(filepath.Join(dir, LockFile))
	r.lock = l
	var held *filelock.Held
	switch {
	case errors.As(err, &held):
		return fmt.Errorf("output_dir %s is in use by %v: wait for its end, or name another folder", dir, held.Holder)
	case errors.Is(err, filelock.ErrNoLocks):
		say(fmt.Errorf("nothing keeps a second run out of output_dir: %w", err))
		return nil
	case err != nil:
		return fmt.Errorf("output_dir: %w", err)
	}
	return nil
}

// Start makes the output folder, which must be new or empty, with the graphs and the resolved configuration. say is told
// what the user should know.
func (r *Run) Start(say func(error)) error {
	dir := r.Config.OutputDir
	_, statErr := os.Stat(dir)
	made := errors.Is(statErr, fs.ErrNotExist)
	if err := r.claimNew(dir, say); err != nil {
		if made {
			_ = os.Remove(dir) // only where it is empty
		}
		return err
	}
	return r.writeStart(made)
}

// claimNew makes and locks a folder, which must have nothing in it.
func (r *Run) claimNew(dir string, say func(error)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("output_dir: %w", err)
	}
	if err := r.claim(dir, say); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("output_dir: %w", err)
	}
	for _, e := range entries {
		if e.Name() != LockFile {
			return fmt.Errorf("output_dir %s is not empty: name a new folder, or go on with --resume", dir)
		}
	}
	return nil
}

// writeStart writes what a run starts with, or nothing: made says that the folder is to go too.
func (r *Run) writeStart(made bool) error {
	dir := r.Config.OutputDir
	err := func() error {
		if err := r.Set.Write(filepath.Join(dir, ArtifactsDir)); err != nil {
			return err
		}
		b, err := r.Config.YAML()
		if err != nil {
			return err
		}
		return atomicdir.WriteFile(filepath.Join(dir, ConfigFile), b)
	}()
	if err != nil {
		undo := []string{filepath.Join(dir, ArtifactsDir), filepath.Join(dir, ConfigFile)}
		if made {
			undo = []string{dir}
		}
		for _, p := range undo {
			err = errors.Join(err, os.RemoveAll(p))
		}
		return fmt.Errorf("writing output_dir: %w", err)
	}
	return nil
}

// Train runs to the last step and saves the model: the last one, or with a validation file the best one. When ctx ends,
// it saves a checkpoint after the current step and gives ortrain.ErrInterrupted. tell is told of each validation.
func (r *Run) Train(ctx context.Context, tell func(Validation) error, hooks ...ortrain.Hook) error {
	if r.validation != nil {
		r.validation.ctx, r.validation.tell = ctx, tell
		hooks = append(hooks, r.validation)
	}
	hooks = append(hooks, &saver{r})
	err := r.Trainer.Run(ctx, r.source, hooks...)
	if errors.Is(err, ortrain.ErrInterrupted) || errors.Is(err, context.Canceled) { // the latter: in a validation
		return errors.Join(ortrain.ErrInterrupted, r.SaveCheckpoint())
	}
	if errors.Is(err, ortrain.ErrUnchanged) {
		return errors.Join(err, r.SaveCheckpoint())
	}
	if err != nil && !errors.Is(err, errStopped) {
		return err
	}
	if err := r.SaveCheckpoint(); err != nil || r.validation != nil {
		return err // the best model was saved when it was found
	}
	return r.saveModel(nil, nil)
}

// saveModel writes the model as it is; before and now are its validations, if there are any.
func (r *Run) saveModel(before, now *Validation) error {
	c := modelcard.Card{
		BaseModel: r.Config.Model, Steps: r.Trainer.StepsDone(), Version: r.version,
		Data: r.Config.TrainDataset, Examples: r.Data.Len(), BatchSize: r.Config.BatchSize, LR: r.Config.LR,
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

// WriteArtifacts writes the artifact directory, a checkpoint of the untrained model included, into dir.
func (r *Run) WriteArtifacts(dir string, say func(error)) error {
	if err := r.claimNew(dir, say); err != nil {
		return err
	}
	if err := r.Set.Write(dir); err != nil {
		return err
	}
	return r.checkpoints(dir).Save(r.Trainer, r.kept())
}

// saver saves the state every save_steps and, with save_on_epoch_end, after every epoch.
type saver struct{ r *Run }

func (c *saver) OnStart(*ortrain.Trainer) error { return nil }

func (c *saver) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	n := c.r.Config.SaveSteps
	due := n > 0 && s.Step%n == 0 || c.r.Config.SaveOnEpochEnd == 1 && s.Step%c.r.perEpoch == 0
	if due && s.Step < s.Total {
		return c.r.SaveCheckpoint()
	}
	return nil
}

func (c *saver) OnEnd(*ortrain.Trainer, error) error { return nil }
