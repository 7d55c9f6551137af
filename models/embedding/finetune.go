package embedding

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
)

// Names in a run's output folder.
const (
	ModelDir     = "model"
	ArtifactsDir = "artifacts"
	ConfigFile   = "config.yaml"
)

// Run is a fine-tuning run, opened: everything that can fail for a wrong input has been checked.
type Run struct {
	Config  config.Train
	Model   *Model
	Data    *Dataset
	Trainer *ortrain.Trainer
	Steps   int // of the whole run
	Set     *artifact.Set

	source  ortrain.Source
	version string
}

// Prepare opens model and data and builds the graphs. It writes nothing. version goes into the saved folder.
func Prepare(c config.Train, version string) (*Run, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return prepare(c, version, true)
}

// PrepareGraphs is Prepare without training data, for WriteArtifacts.
func PrepareGraphs(c config.Train, version string) (*Run, error) {
	if c.TrainDataset == "" {
		c.TrainDataset = "none" // not read
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return prepare(c, version, false)
}

func prepare(c config.Train, version string, data bool) (*Run, error) {
	r := &Run{Config: c, version: version}
	if err := r.open(data); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Run) open(data bool) (err error) {
	c, b := r.Config, batching(r.Config)
	if r.Model, err = Open(c.Model); err != nil {
		return err
	}
	if c.Dropout >= 0 {
		r.Model.Encoder.SetDropout(c.Dropout)
	}
	if err := r.Model.checkBatching(b); err != nil {
		return err
	}
	r.Steps = c.Steps(1)
	if data {
		if r.Data, err = OpenDataset(c.TrainDataset, c.NegNums > 0); err != nil {
			return err
		}
		if r.source, err = r.Model.Source(r.Data, b); err != nil {
			return err
		}
		r.Steps = c.Steps(b.StepsPerEpoch(r.Data.Len()))
	}
	shape := b.Shape()
	shape.Recompute = r.Model.Encoder.RecomputeAttention(shape.Rows, shape.MaxLength)
	if r.Set, err = artifact.Build(r.Model.Trainable(shape, c.Temperature), c.AdamW()); err != nil {
		return err
	}
	r.Trainer, err = ortrain.NewTrainer(r.Set, ortrain.Config{
		Schedule: c.Schedule(r.Steps), AdamW: c.AdamW(), MaxGradNorm: c.MaxGradNorm, Seed: c.Seed, Threads: c.Threads,
		Profile: c.Profile,
	})
	if err != nil {
		return err
	}
	return r.Model.Encoder.ReadWeights(c.Model, r.Trainer.Layout(), r.Trainer.Parameters())
}

func batching(c config.Train) Batching {
	return Batching{
		BatchSize: c.BatchSize, Accumulation: c.GradientAccumulationSteps, NegNums: c.NegNums,
		QueryMaxLen: c.QueryMaxLen, PassageMaxLen: c.PassageMaxLen, Groups: c.AttentionGroups,
		Shuffle: c.Shuffle, Seed: c.Seed,
	}
}

// Close frees everything.
func (r *Run) Close() error {
	var errs []error
	if r.Trainer != nil {
		errs = append(errs, r.Trainer.Close())
	}
	if r.Data != nil {
		errs = append(errs, r.Data.Close())
	}
	if r.Model != nil {
		errs = append(errs, r.Model.Close())
	}
	return errors.Join(errs...)
}

// checkpointDir is where the run's state lies.
func (r *Run) checkpointDir() string {
	return filepath.Join(r.Config.OutputDir, ArtifactsDir, artifact.CheckpointDir)
}

// Start makes the output folder, which must be new or empty, with the graphs and the resolved configuration.
func (r *Run) Start() error {
	if err := checkNew(r.Config.OutputDir); err != nil {
		return err
	}
	return r.writeStart()
}

func checkNew(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("output_dir: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("output_dir %s is not empty: name a new folder, or go on with --resume", dir)
	}
	return nil
}

func (r *Run) writeStart() error {
	dir := r.Config.OutputDir
	_, statErr := os.Stat(dir)
	err := func() error {
		if err := r.Set.Write(filepath.Join(dir, ArtifactsDir)); err != nil {
			return err
		}
		b, err := r.Config.YAML()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, ConfigFile), b, 0o644)
	}()
	if err != nil {
		undo := []string{filepath.Join(dir, ArtifactsDir), filepath.Join(dir, ConfigFile)}
		if os.IsNotExist(statErr) {
			undo = []string{dir}
		}
		for _, p := range undo {
			err = errors.Join(err, os.RemoveAll(p))
		}
		return fmt.Errorf("writing output_dir: %w", err)
	}
	return nil
}

// Resume goes on from the checkpoint in the output folder. A configuration other than the one that the checkpoint
// was made with is an error that names the differences; where the run computes and logs may differ.
func (r *Run) Resume() error {
	var saved config.Train
	if err := ortrain.ReadCheckpointHost(r.checkpointDir(), &saved); err != nil {
		return err
	}
	if d := differences(saved, r.Config); len(d) > 0 {
		return fmt.Errorf("the checkpoint in %s was made with another configuration: %s", r.Config.OutputDir, strings.Join(d, "; "))
	}
	return r.Trainer.LoadCheckpoint(r.checkpointDir())
}

// free are the keys that do not change what is learned.
var free = map[string]bool{"output_dir": true, "save_steps": true, "log_interval": true, "threads": true, "profile": true}

func differences(saved, now config.Train) []string {
	var out []string
	a, b := reflect.ValueOf(saved), reflect.ValueOf(now)
	for i := 0; i < a.NumField(); i++ {
		key := a.Type().Field(i).Tag.Get("yaml")
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); x != y && !free[key] {
			out = append(out, fmt.Sprintf("%s was %v, is %v", key, x, y))
		}
	}
	return out
}

// SaveCheckpoint writes the run's state.
func (r *Run) SaveCheckpoint() error { return r.Trainer.SaveCheckpoint(r.checkpointDir(), r.Config) }

// Train runs to the last step and saves the model. When ctx ends, it saves a checkpoint after the current step and
// gives ortrain.ErrInterrupted.
func (r *Run) Train(ctx context.Context, hooks ...ortrain.Hook) error {
	hooks = append(hooks, &checkpoints{r})
	err := r.Trainer.Run(ctx, r.source, hooks...)
	if errors.Is(err, ortrain.ErrInterrupted) {
		return errors.Join(err, r.SaveCheckpoint())
	}
	if err != nil {
		return err
	}
	if err := r.SaveCheckpoint(); err != nil {
		return err
	}
	return r.Model.Save(r.ModelPath(), Card{
		BaseModel: r.Config.Model, QueryMaxLen: r.Config.QueryMaxLen, PassageMaxLen: r.Config.PassageMaxLen,
		Temperature: r.Config.Temperature, Steps: r.Trainer.StepsDone(), Version: r.version,
	}, r.Trainer.Layout(), r.Trainer.Parameters())
}

// ModelPath is the folder of the fine-tuned model.
func (r *Run) ModelPath() string { return filepath.Join(r.Config.OutputDir, ModelDir) }

// WriteArtifacts writes the artifact directory, a checkpoint of the untrained model included, into dir.
func (r *Run) WriteArtifacts(dir string) error {
	if err := checkNew(dir); err != nil {
		return err
	}
	if err := r.Set.Write(dir); err != nil {
		return err
	}
	return r.Trainer.SaveCheckpoint(filepath.Join(dir, artifact.CheckpointDir), r.Config)
}

// checkpoints saves the state every save_steps.
type checkpoints struct{ r *Run }

func (c *checkpoints) OnStart(*ortrain.Trainer) error { return nil }

func (c *checkpoints) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	if n := c.r.Config.SaveSteps; n > 0 && s.Step%n == 0 && s.Step < s.Total {
		return c.r.SaveCheckpoint()
	}
	return nil
}

func (c *checkpoints) OnEnd(*ortrain.Trainer, error) error { return nil }
