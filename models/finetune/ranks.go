package finetune

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// PrepareRank is Prepare for one rank of a job. Every rank prepares the same run; each trains on its own part of every batch,
// and batch_size is per rank. Only rank 0 writes and calls the caller's hooks. The error of one rank is the error of all, and
// ranks that do not agree on settings, files or versions are refused.
func PrepareRank(ctx context.Context, c config.Train, open NewTask, from resolve.Resolver, version string, comm dist.Comm) (*Run, error) {
	r, err := prepare(ctx, c, open, from, version, true, comm)
	if err := dist.Agree(comm, err); err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, err
	}
	if err := dist.Agree(comm, r.compareRanks()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// sessionOptions returns the options of this rank's sessions. Where the configuration leaves them open, the rank gets its
// share of the host's cores, and the GPU with its number among the ranks of the host.
func (r *Run) sessionOptions() runtime.Options {
	o := r.Config.SessionOptions()
	o.BF16 = r.unit
	if r.comm.Size() == 1 {
		return o
	}
	if r.Config.Threads == 0 {
		o.Threads = dist.Threads(r.places, r.comm.Rank())
	}
	if r.Config.DeviceID < 0 {
		o.DeviceID = r.comm.LocalRank()
	}
	return o
}

// checkGPUs returns an error if there are fewer GPUs on this rank's host than ranks that want one each.
func (r *Run) checkGPUs() error {
	if r.Config.Provider == runtime.CPU || r.Config.DeviceID >= 0 || r.comm.Size() == 1 {
		return nil
	}
	gpus, err := runtime.GPUs()
	ranks := dist.RanksOfHost(r.places, r.comm.Rank())
	if err != nil || gpus == 0 || len(ranks) <= gpus { // Resolve says what is wrong with CUDA
		return nil
	}
	return fmt.Errorf("host %s has %d GPUs for %d ranks, and each rank takes one: start at most %d ranks on a host, or name one GPU for all of them with device_id",
		r.places[r.comm.Rank()].Host, gpus, len(ranks), gpus)
}

// Versions are those of the programs that all ranks of a job must have in common.
type Versions struct {
	Program string `json:"version"`
	Runtime string `json:"onnx_runtime"`
}

// Differences says which versions differ from rank 0's.
func (v Versions) Differences(first Versions) []string {
	var out []string
	for _, x := range [][3]string{{"program", first.Program, v.Program}, {"ONNX Runtime", first.Runtime, v.Runtime}} {
		if x[1] != x[2] {
			out = append(out, fmt.Sprintf("%s is %s, there %s", x[0], x[2], x[1]))
		}
	}
	return out
}

// rankState is what all ranks of a job must have in common.
type rankState struct {
	runState
	Versions
	ModelFiles []inputFile `json:"model_files"`
}

// hashModel returns the checksums of the files of a base model. Ranks start with rank 0's weights, but each has its own tokenizer.
func hashModel(ctx context.Context, dir string) (out []inputFile, err error) {
	files, err := hf.Files(dir)
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, err
		}
		sum, err := data.HashFile(ctx, path, indexFolder())
		if err != nil {
			return nil, fmt.Errorf("model_name_or_path: %w", err)
		}
		out = append(out, inputFile{"model_name_or_path", name, sum})
	}
	return out, nil
}

// modelChanges names the files of the base model that are not rank 0's.
func modelChanges(first, mine []inputFile) (out []string) {
	sums := map[string]data.Checksum{}
	for _, f := range first {
		sums[f.Name] = f.Checksum
	}
	for _, f := range mine {
		if old, ok := sums[f.Name]; !ok {
			out = append(out, fmt.Sprintf("%s has %s, there not", f.Key, f.Name))
		} else if old != f.Checksum {
			out = append(out, fmt.Sprintf("%s %s is %v, there %v", f.Key, f.Name, f.Checksum, old))
		}
		delete(sums, f.Name)
	}
	for _, f := range first {
		if _, ok := sums[f.Name]; ok {
			out = append(out, fmt.Sprintf("%s has no %s, there it has", f.Key, f.Name))
		}
	}
	return out
}

// rankKeys are the settings that may differ between the ranks of a job. All others decide what is learned, or in which steps
// the ranks need each other.
var rankKeys = map[string]bool{
	"output_dir": true, "num_max_checkpoints": true, "log_interval": true, "threads": true, "profile": true,
	"provider": true, "device_id": true, "gpu_mem_limit": true, "chunk_tokens": true, "gradient_checkpointing": true,
}

// compareRanks returns an error that says how this rank differs from rank 0.
func (r *Run) compareRanks() error {
	if r.comm.Size() == 1 {
		return nil
	}
	library, _ := runtime.Version()
	mine := rankState{r.state(), Versions{r.version, library}, r.modelFiles}
	all, err := dist.GatherJSON(r.comm, mine)
	if err != nil {
		return err
	}
	first := all[0]
	d := append(differences(first.Train, mine.Train, rankKeys, "%[1]s is %[3]v, there %[2]v"), r.dataChanges(first.runState)...)
	d = append(append(d, modelChanges(first.ModelFiles, r.modelFiles)...), mine.Differences(first.Versions)...)
	if len(d) > 0 {
		return fmt.Errorf("it differs from rank 0: %s", strings.Join(d, "; "))
	}
	return nil
}

// compareSteps returns an error if this rank has read the checkpoint of another step than rank 0: it may not see the same
// output folder, or not yet.
func (r *Run) compareSteps() error {
	all, err := r.comm.AllGather([]byte(fmt.Sprint(r.Trainer.StepsDone())))
	if err != nil {
		return err
	}
	if first, mine := string(all[0]), string(all[r.comm.Rank()]); mine != first {
		return fmt.Errorf("the newest checkpoint that it finds in %s is of step %s, rank 0's of step %s", r.Config.OutputDir, mine, first)
	}
	return nil
}

// MomentMemory says for each rank how much memory the optimizer's moments take there; nil if they are not sharded. All ranks
// of a job call it.
func (r *Run) MomentMemory() ([]string, error) {
	if !r.Config.ShardOptimizer || r.comm.Size() == 1 {
		return nil, nil
	}
	own, whole := r.Trainer.MomentBytes()
	all, err := r.comm.AllGather([]byte(fmt.Sprintf("rank %d: the moments take %.1f MB, of %.1f MB on all ranks", r.comm.Rank(), float64(own)/1e6, float64(whole)/1e6)))
	var lines []string
	for _, b := range all {
		lines = append(lines, string(b))
	}
	return lines, err
}

// Ranks is the number of ranks of the job.
func (r *Run) Ranks() int { return r.comm.Size() }

// profilePrefix returns the file prefix of this rank's profile.
func (r *Run) profilePrefix() string {
	if r.Config.Profile == "" || r.Ranks() == 1 {
		return r.Config.Profile
	}
	return fmt.Sprintf("%s_rank%d", r.Config.Profile, r.comm.Rank())
}

// isFirst says whether this process writes the run's files: the only rank, or rank 0.
func (r *Run) isFirst() bool { return r.comm.Rank() == 0 }

// onlyFirst returns the hook on rank 0, and on other ranks a hook that does nothing.
func (r *Run) onlyFirst(h ortrain.Hook) ortrain.Hook {
	if r.isFirst() {
		return h
	}
	return noHook{}
}

// noHook is a hook that does nothing.
type noHook struct{}

func (noHook) OnStart(*ortrain.Trainer) error              { return nil }
func (noHook) OnStep(*ortrain.Trainer, ortrain.Step) error { return nil }
func (noHook) OnEnd(*ortrain.Trainer, error) error         { return nil }
