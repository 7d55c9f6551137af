package finetune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
)

// Names in a run's output folder.
const (
	ModelDir     = "model"
	ArtifactsDir = "artifacts"
	ConfigFile   = "config.yaml"
	LockFile     = ".lock" // locked while a run uses the folder
)

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

// begunRun reports whether a folder has the first files of a run, see writeInitialFiles.
func begunRun(dir string) bool {
	for _, name := range []string{ArtifactsDir, ConfigFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// checkEmpty returns an error if a folder has files, which says what to do about them. It may be absent.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output_dir: %w", err)
	}
	for _, e := range entries {
		if e.Name() == LockFile {
			continue
		}
		what := "name a new folder"
		if begun, err := (ortrain.Checkpoints{Dir: filepath.Join(dir, ArtifactsDir, artifact.CheckpointDir)}).Any(); err != nil {
			return fmt.Errorf("output_dir: %w", err)
		} else if begun {
			what += ", or continue the run in it with --resume"
		} else if begunRun(dir) {
			what = "the run in it has no checkpoint (save_steps): name a new folder, or remove this one if the run has ended"
		}
		return fmt.Errorf("output_dir %s is not empty: %s", dir, what)
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
