package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"reflect"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
)

// runState is the part of a checkpoint that is not the trainer's: everything that decides which examples come at which
// step. Checkpoints of earlier versions have only the configuration.
type runState struct {
	config.Train
	Steps int         `json:"run_steps"`
	Files []inputFile `json:"run_files"`
	Ranks int         `json:"ranks,omitempty"` // of the job; 0 means 1
	// GlobalBatch is the number of examples of a step, of all ranks. Checkpoints of earlier versions do not have it; it follows
	// from the others.
	GlobalBatch int `json:"global_batch,omitempty"`
	// Precision is the path of the products, see Run.Precision.
	Precision string `json:"precision,omitempty"`
	// Frozen has the files of the base model where a part of it is frozen.
	Frozen []inputFile `json:"frozen_model_files,omitempty"`
}

// inputFile is a file that a run reads: its key in the configuration, its name there, and its checksum.
type inputFile struct {
	Key  string `json:"key"`
	Name string `json:"name"`
	data.Checksum
}

// hashFiles returns the checksums of all input files. Files of rows were hashed when they were indexed.
func (r *Run) hashFiles(ctx context.Context) ([]inputFile, error) {
	c := r.Config
	var out []inputFile
	add := func(key string, names []string, sums []data.Checksum) {
		for i, s := range sums {
			out = append(out, inputFile{key, names[i], s})
		}
	}
	add("train_dataset", c.TrainDataset, r.Data.Checksums())
	if r.validation != nil {
		add("val_dataset", c.ValDataset, r.validation.data.Checksums())
	}
	if c.Teacher != "" {
		s, err := data.HashFile(ctx, c.Teacher, indexFolder())
		if err != nil {
			return nil, fmt.Errorf("teacher_embeddings: %w", err)
		}
		add("teacher_embeddings", []string{c.Teacher}, []data.Checksum{s})
	}
	return out, nil
}

// state returns the state of this run for a checkpoint.
func (r *Run) state() runState {
	s := runState{Train: r.Config, Steps: r.Steps, Files: r.inputFiles, GlobalBatch: divisionOf(r.Config, r.comm.Size()).global(), Precision: r.Precision(), Frozen: r.frozenFiles()}
	if r.comm.Size() > 1 {
		s.Ranks = r.comm.Size()
	}
	return s
}

// frozenFiles are the files of the base model where a part of it is frozen: checkpoints do not have that part. Nil: all is trained.
func (r *Run) frozenFiles() []inputFile {
	if r.Config.LoraRank == 0 && len(r.Config.Freeze) == 0 {
		return nil
	}
	return r.modelFiles
}

// Resume continues the run from the newest undamaged checkpoint in the output folder. It calls warn for damaged checkpoints
// and for an old one without checksums. If the checkpoint was made with other settings, other files or another number of
// steps, the error names the differences. Settings that do not change what is learned may differ; see freeKeys and division.
func (r *Run) Resume(warn func(error)) error {
	var err error
	if r.isFirst() {
		if err = r.takeOutput(warn); err == nil {
			err = atomicdir.Recover(r.ModelPath()) // if the run died while it replaced the best model
		}
	}
	if err := dist.Agree(r.comm, err); err != nil {
		return err
	}
	if err := r.loadInTurn(r.checkpoints(r.artifacts()), warn); err != nil {
		return err
	}
	r.noteCheckpoint()
	return nil
}

// CheckResume reads the checkpoint as Resume does, with the same errors, and writes nothing. Trainer.StepsDone then says where the run
// would go on. It returns the checkpoint's folder.
func (r *Run) CheckResume(warn func(error)) (checkpoint string, err error) {
	if r.isFirst() {
		if err = r.takeOutput(warn); err == nil && r.validation != nil {
			_, err = r.validation.earlier(math.MaxInt)
		}
		err = errors.Join(err, r.freeOutput())
	}
	if err := dist.Agree(r.comm, err); err != nil {
		return "", err
	}
	c := r.checkpoints(r.artifacts())
	c.ReadOnly = true
	if err := r.loadInTurn(c, warn); err != nil {
		return "", err
	}
	return c.Path(r.Trainer.StepsDone()), nil
}

// loadInTurn loads the checkpoint on rank 0, which finishes what a crash left half done, and then on the others.
func (r *Run) loadInTurn(from ortrain.Checkpoints, warn func(error)) (err error) {
	if r.isFirst() {
		err = r.load(from, warn)
	}
	if err := dist.Agree(r.comm, err); err != nil {
		return err
	}
	if !r.isFirst() {
		err = r.load(from, warn)
	}
	if err := dist.Agree(r.comm, err); err != nil {
		return err
	}
	return dist.Agree(r.comm, r.compareSteps())
}

// takeOutput locks the output folder of a run that is resumed.
func (r *Run) takeOutput(warn func(error)) error {
	if err := r.lockOutput(r.Config.OutputDir, warn); err != nil && !errors.Is(err, fs.ErrNotExist) { // load reports a missing folder
		return err
	}
	return nil
}

// load reads the newest undamaged checkpoint.
func (r *Run) load(from ortrain.Checkpoints, warn func(error)) error {
	dir := r.Config.OutputDir
	err := from.Load(r.Trainer, func(host json.RawMessage) error {
		saved := runState{Train: config.DefaultTrain(r.Config.Kind)} // for keys that an older version did not have
		if err := json.Unmarshal(host, &saved); err != nil {
			return fmt.Errorf("the checkpoint's configuration: %w", err)
		}
		if d := differences(saved.Train, r.Config, freeKeys, "%s was %v, is %v"); len(d) > 0 {
			return fmt.Errorf("the checkpoint in %s was made with another configuration: %s", dir, strings.Join(d, "; "))
		}
		if err := r.checkPath(saved); err != nil {
			return err
		}
		was, is := divisionOf(saved.Train, max(saved.Ranks, 1)), divisionOf(r.Config, r.comm.Size())
		if err := was.equals(is, r.Data.EpochLen(), r.Config.LossType); err != nil {
			return fmt.Errorf("the checkpoint in %s was made with other batches: %w", dir, err)
		}
		if was != is && r.isFirst() {
			warn(fmt.Errorf("going on with %v in place of %v", is, was))
		}
		if saved.Files == nil {
			warn(fmt.Errorf("the checkpoint in %s was made by an earlier version: it cannot be checked that data files and number of steps (now %d) are still the same", dir, r.Steps))
			return nil
		}
		if d := modelChanges(saved.Frozen, r.frozenFiles()); saved.Frozen != nil && len(d) > 0 {
			return fmt.Errorf("the checkpoint in %s has only what is trained, and was made over another base model: %s; restore the files, or start a new run in another folder", dir, strings.Join(d, "; "))
		}
		if d := r.dataChanges(saved); len(d) > 0 {
			return fmt.Errorf("the checkpoint in %s was made with other data: %s; restore the files, or start a new run in another folder", dir, strings.Join(d, "; "))
		}
		return nil
	}, warn)
	if errors.Is(err, ortrain.ErrNoCheckpoint) {
		return fmt.Errorf("%w: %s", err, r.withoutCheckpoint())
	}
	return err
}

// withoutCheckpoint says what to do about an output folder without a checkpoint. A run without --resume agrees, see checkEmpty.
func (r *Run) withoutCheckpoint() string {
	if begunRun(r.Config.OutputDir) {
		return "the run was stopped before its first one (save_steps): remove the folder " + r.Config.OutputDir + ", or name a new one, and start again without --resume"
	}
	return "start without --resume, in a new folder"
}

// dataChanges names the files that differ from a checkpoint's, and the number of steps if it differs. The configurations
// are equal at this point, so both name the same files in the same order.
func (r *Run) dataChanges(saved runState) []string {
	var out []string
	for i, f := range r.inputFiles {
		if i >= len(saved.Files) {
			out = append(out, fmt.Sprintf("%s %s was not read", f.Key, f.Name))
		} else if old := saved.Files[i]; old.Checksum != f.Checksum {
			out = append(out, fmt.Sprintf("%s %s was %v, is %v", f.Key, f.Name, old.Checksum, f.Checksum))
		}
	}
	if saved.Steps != r.Steps {
		out = append(out, fmt.Sprintf("the run had %d steps, has %d", saved.Steps, r.Steps))
	}
	return out
}

// freeKeys are the settings that may differ between a checkpoint and its resumed run: they do not change what is learned. What
// the last three may be, division.equals says. mixed_precision is compared as the path that it stands for, see checkPath.
var freeKeys = map[string]bool{
	"output_dir": true, "save_steps": true, "save_on_epoch_end": true, "num_max_checkpoints": true, "log_interval": true, "threads": true, "profile": true,
	"provider": true, "device_id": true, "gpu_mem_limit": true, "chunk_tokens": true, "gradient_checkpointing": true, "shard_optimizer": true, "check_steps": true, "merge": true,
	"batch_size": true, "gradient_accumulation_steps": true, "all_gather": true, "mixed_precision": true,
}

// differences names the settings that differ from a checkpoint's, each in a format of key, saved value and value now. It ignores
// the keys in free, and settings of other kinds of models, which earlier versions also saved.
func differences(saved, now config.Train, free map[string]bool, format string) []string {
	var out []string
	a, b := reflect.ValueOf(saved), reflect.ValueOf(now)
	for i := 0; i < a.NumField(); i++ {
		field := a.Type().Field(i)
		key := field.Tag.Get("yaml")
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(x, y) && !free[key] && config.HasKind(field, now.Kind) {
			out = append(out, fmt.Sprintf(format, key, x, y))
		}
	}
	return out
}

// checkpoints returns the run's checkpoints in an artifact directory.
func (r *Run) checkpoints(dir string) ortrain.Checkpoints {
	return ortrain.Checkpoints{Dir: filepath.Join(dir, artifact.CheckpointDir), Keep: r.Config.NumMaxCheckpoints}
}

// artifacts is the artifact directory of the run.
func (r *Run) artifacts() string { return filepath.Join(r.Config.OutputDir, ArtifactsDir) }

// SaveCheckpoint saves a checkpoint of the run in its output folder. All ranks of a job call it; rank 0 writes.
func (r *Run) SaveCheckpoint() error {
	if err := r.checkpoints(r.artifacts()).Save(r.Trainer, r.state()); err != nil {
		return err
	}
	r.noteCheckpoint()
	return nil
}

// noteCheckpoint says, should the job break, that it can go on from the checkpoint of the last step.
func (r *Run) noteCheckpoint() {
	step := r.Trainer.StepsDone()
	r.comm.Note(fmt.Sprintf("the last whole checkpoint is %s, of step %d: go on from it with --resume",
		r.checkpoints(r.artifacts()).Path(step), step))
}
