package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
)

// kept is what a checkpoint keeps of its run besides the trainer's state: everything that decides which examples come at
// which step. Checkpoints of earlier versions have the configuration only.
type kept struct {
	config.Train
	Steps int       `json:"run_steps"`
	Files []trained `json:"run_files"`
}

// trained is a file that a run reads: its key in the configuration, its name there, and its bytes.
type trained struct {
	Key  string `json:"key"`
	Name string `json:"name"`
	data.Sum
}

// sumFiles gives the sums of all of the run's files; those of rows were taken when they were indexed.
func (r *Run) sumFiles(ctx context.Context) ([]trained, error) {
	c := r.Config
	var out []trained
	add := func(key string, names []string, sums []data.Sum) {
		for i, s := range sums {
			out = append(out, trained{key, names[i], s})
		}
	}
	add("train_dataset", c.TrainDataset, r.Data.Sums())
	if r.validation != nil {
		add("val_dataset", c.ValDataset, r.validation.data.Sums())
	}
	if c.Teacher != "" {
		s, err := data.SumFile(ctx, c.Teacher, indices())
		if err != nil {
			return nil, fmt.Errorf("teacher_embeddings: %w", err)
		}
		add("teacher_embeddings", []string{c.Teacher}, []data.Sum{s})
	}
	return out, nil
}

// kept is the run's own.
func (r *Run) kept() kept { return kept{r.Config, r.Steps, r.files} }

// Resume goes on from the newest whole checkpoint in the output folder; say is told of damaged ones, and of one that does
// not tell its files. A checkpoint that was made with another configuration, other files or another number of steps is an
// error that names the differences; where the run computes and logs may differ.
func (r *Run) Resume(say func(error)) error {
	dir := r.Config.OutputDir
	if err := r.claim(dir, say); err != nil && !errors.Is(err, fs.ErrNotExist) { // no folder, no checkpoint
		return err
	}
	if err := atomicdir.Recover(r.ModelPath()); err != nil { // the best model, if the run died while it replaced it
		return err
	}
	return r.checkpoints(filepath.Join(dir, ArtifactsDir)).Load(r.Trainer, func(host json.RawMessage) error {
		saved := kept{Train: config.DefaultTrain(r.Config.Kind)} // for keys that an older version did not have
		if err := json.Unmarshal(host, &saved); err != nil {
			return fmt.Errorf("the checkpoint's configuration: %w", err)
		}
		if d := differences(saved.Train, r.Config); len(d) > 0 {
			return fmt.Errorf("the checkpoint in %s was made with another configuration: %s", dir, strings.Join(d, "; "))
		}
		if saved.Files == nil {
			say(fmt.Errorf("the checkpoint in %s is of an earlier version, which kept neither its files' checksums nor its number of steps, here %d: whether they are still the same is not checked", dir, r.Steps))
			return nil
		}
		if d := r.changes(saved); len(d) > 0 {
			return fmt.Errorf("the checkpoint in %s was made with other data: %s; put the files back, or start anew in another folder", dir, strings.Join(d, "; "))
		}
		return nil
	}, say)
}

// changes says which files and whether the number of steps differ from a checkpoint's. The configurations are the same,
// so both have the same files in the same order.
func (r *Run) changes(saved kept) []string {
	var out []string
	for i, f := range r.files {
		if i >= len(saved.Files) {
			out = append(out, fmt.Sprintf("%s %s was not read", f.Key, f.Name))
		} else if was := saved.Files[i]; was.Sum != f.Sum {
			out = append(out, fmt.Sprintf("%s %s was %v, is %v", f.Key, f.Name, was.Sum, f.Sum))
		}
	}
	if saved.Steps != r.Steps {
		out = append(out, fmt.Sprintf("the run had %d steps, has %d", saved.Steps, r.Steps))
	}
	return out
}

// free are the keys that do not change what is learned.
var free = map[string]bool{
	"output_dir": true, "save_steps": true, "save_on_epoch_end": true, "num_max_checkpoints": true, "log_interval": true, "threads": true, "profile": true,
	"provider": true, "gpu_mem_limit": true, "chunk_tokens": true, "gradient_checkpointing": true,
}

// differences names the keys that were otherwise in a checkpoint. Those of other kinds, which earlier versions kept as a
// file had them, do not count.
func differences(saved, now config.Train) []string {
	var out []string
	a, b := reflect.ValueOf(saved), reflect.ValueOf(now)
	for i := 0; i < a.NumField(); i++ {
		field := a.Type().Field(i)
		key := field.Tag.Get("yaml")
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(x, y) && !free[key] && config.HasKind(field, now.Kind) {
			out = append(out, fmt.Sprintf("%s was %v, is %v", key, x, y))
		}
	}
	return out
}

// checkpoints are the run's in dir.
func (r *Run) checkpoints(dir string) ortrain.Checkpoints {
	return ortrain.Checkpoints{Dir: filepath.Join(dir, artifact.CheckpointDir), Keep: r.Config.NumMaxCheckpoints}
}

// SaveCheckpoint writes the run's state.
func (r *Run) SaveCheckpoint() error {
	return r.checkpoints(filepath.Join(r.Config.OutputDir, ArtifactsDir)).Save(r.Trainer, r.kept())
}
