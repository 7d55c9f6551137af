package finetune_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// jobConfig is a short run of a reranker on 24 rows.
func jobConfig(t *testing.T) config.Train {
	t.Helper()
	t.Setenv("RAG_RETRIEVAL_HOME", t.TempDir())
	var rows strings.Builder
	for i := range 24 {
		fmt.Fprintf(&rows, `{"query":"a b %s","content":"%s","label":%d}`+"\n", strings.Repeat("c ", i%3), strings.Repeat("d e ", 1+i%5), i%2)
	}
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(rows.String()), 0o600))
	c := config.DefaultTrain(modelcard.Reranker)
	c.Model, c.TrainDataset, c.OutputDir = "testdata/bert-reranker", config.List{path}, filepath.Join(t.TempDir(), "out")
	c.MaxLen, c.Threads, c.BatchSize, c.Epochs, c.LR, c.ChunkTokens, c.Dropout = 16, 1, 2, 1, 1e-3, 0, 0.1
	return c
}

// job is a run on several ranks.
type job struct {
	config config.Train
	ranks  int
	resume bool
	task   func(rank int, t finetune.Task) finetune.Task // changes the task of a rank; nil for none
	hook   ortrain.Hook                                  // nil for none
}

// train trains a job. It returns each rank's parameters and error.
func (j job) train(t *testing.T) (parameters [][]float32, errs []error) {
	t.Helper()
	parameters = make([][]float32, j.ranks)
	errs = disttest.Ranks(j.ranks, func(comm dist.Comm) error {
		open := func(c config.Train) (finetune.Task, error) {
			task, err := reranker.NewTask(c)
			if err == nil && j.task != nil {
				task = j.task(comm.Rank(), task)
			}
			return task, err
		}
		r, err := finetune.PrepareRank(t.Context(), j.config, open, resolve.Resolver{}, "test", comm)
		if err != nil {
			return err
		}
		begin := r.Start
		if j.resume {
			begin = r.Resume
		}
		if err := begin(func(err error) { t.Error(err) }); err != nil {
			return errors.Join(err, r.Close())
		}
		var hooks []ortrain.Hook
		if j.hook != nil {
			hooks = []ortrain.Hook{j.hook}
		}
		err = r.Train(t.Context(), nil, hooks...)
		p, failed := r.Trainer.Parameters()
		parameters[comm.Rank()] = slices.Clone(p)
		return errors.Join(err, failed, r.Close())
	})
	return parameters, errs
}

// checkpointNames are the names of a run's checkpoints.
func checkpointNames(t *testing.T, c config.Train) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.OutputDir, finetune.ArtifactsDir, artifact.CheckpointDir, "*"))
	check(t, err)
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// hungryTask is a reranker whose loss can be told to take as many values as no machine has memory for.
type hungryTask struct {
	finetune.Task
	at, calls int // the call of Collate that makes such a batch
}

func (h *hungryTask) Model() artifact.Model {
	m := h.Task.Model()
	loss := m.Loss
	m.Loss = func(g *onnx.Graph, encoded *onnx.Value) *onnx.Value {
		zeros := g.Input("zeros", onnx.Float32, onnx.NamedDim("zeros"), onnx.Dim{Size: 1})
		return g.Add(loss(g, encoded), g.ReduceSum(g.Mul(zeros, g.Transpose(zeros, 1, 0)), false))
	}
	return m
}

func (h *hungryTask) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	batches, err := h.Task.Collate(b)
	h.calls++
	for _, b := range batches {
		n := 1
		if h.calls == h.at {
			n = 1 << 23 // their products are more than the addresses of a process
		}
		b.Float("zeros", make([]float32, n), int64(n), 1)
	}
	return batches, err
}

// When any rank runs out of memory, rank 0 saves a checkpoint of the step before, and the resumed job is the job that was never
// stopped.
func TestOneRankOutOfMemory(t *testing.T) {
	hungry := func(who, at int) func(int, finetune.Task) finetune.Task {
		return func(rank int, task finetune.Task) finetune.Task {
			h := &hungryTask{Task: task}
			if rank == who {
				h.at = at
			}
			return h
		}
	}
	whole := job{config: jobConfig(t), ranks: 2, task: hungry(-1, 0)}
	want, errs := whole.train(t)
	check(t, errors.Join(errs...))
	for who := range 2 {
		stopped := job{config: jobConfig(t), ranks: 2, task: hungry(who, 4)}
		stopped.config.TrainDataset = whole.config.TrainDataset
		_, errs := stopped.train(t)
		for rank, err := range errs {
			if !errors.Is(err, ortrain.ErrUnchanged) || !strings.Contains(err.Error(), fmt.Sprintf("rank %d: step 4, which computes ", who)) {
				t.Errorf("rank %d: %v", rank, err)
			}
		}
		if names := checkpointNames(t, stopped.config); !slices.Equal(names, []string{"step-00000003"}) {
			t.Fatalf("rank %d ran out of memory: the checkpoints are %v", who, names)
		}
		stopped.resume, stopped.task = true, hungry(-1, 0)
		got, errs := stopped.train(t)
		check(t, errors.Join(errs...))
		for rank := range got {
			if !slices.Equal(got[rank], want[0]) {
				t.Errorf("the resumed job's parameters differ on rank %d", rank)
			}
		}
	}
}

// nanTask is a reranker of whose batches one has a label that is no number.
type nanTask struct {
	finetune.Task
	at, calls int
}

func (n *nanTask) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	batches, err := n.Task.Collate(b)
	if n.calls++; n.calls == n.at {
		batches[0].Floats["labels"].Data[0] = float32(math.NaN())
	}
	return batches, err
}

// A loss of NaN ends all ranks in the same step. The error of each names the rows of the rank that has it.
func TestOneRankNaN(t *testing.T) {
	for who := range 2 {
		j := job{config: jobConfig(t), ranks: 2, task: func(rank int, task finetune.Task) finetune.Task {
			n := &nanTask{Task: task}
			if rank == who {
				n.at = 3
			}
			return n
		}}
		j.config.SaveSteps = 1
		_, errs := j.train(t)
		for rank, err := range errs {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rank %d: step 3: the loss is NaN", who)) || !strings.Contains(err.Error(), "in a batch of the rows ") {
				t.Errorf("rank %d: %v", rank, err)
			}
		}
		if names := checkpointNames(t, j.config); !slices.Equal(names, []string{"step-00000001", "step-00000002"}) {
			t.Errorf("the checkpoints are %v", names)
		}
	}
}

// failing is a hook that fails at one of its calls.
type failing struct{ at string }

func (f failing) call(at string) error {
	if f.at == at {
		return fmt.Errorf("no room at the %s", at)
	}
	return nil
}

func (f failing) OnStart(*ortrain.Trainer) error { return f.call("start") }

func (f failing) OnStep(_ *ortrain.Trainer, s ortrain.Step) error {
	return f.call(fmt.Sprint("step ", s.Step))
}

func (f failing) OnEnd(*ortrain.Trainer, error) error { return f.call("end") }

// A hook of rank 0 that fails ends all ranks with its message, at each of its calls. No rank goes on to the next checkpoint, in
// which the others would wait for it.
func TestHookOfRankZeroFails(t *testing.T) {
	for _, at := range []string{"start", "step 2", "end"} {
		j := job{config: jobConfig(t), ranks: 2, hook: failing{at}}
		j.config.SaveSteps = 2
		_, errs := j.train(t)
		for rank, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "rank 0: no room at the "+at) || strings.Contains(err.Error(), "left the job") {
				t.Errorf("%s: rank %d: %v", at, rank, err)
			}
		}
	}
}

// A checkpoint that rank 0 cannot write ends all ranks with the reason.
func TestCheckpointCannotBeWritten(t *testing.T) {
	j := job{config: jobConfig(t), ranks: 2}
	j.config.SaveSteps = 2
	j.hook = at{2, func() {
		dir := filepath.Join(j.config.OutputDir, finetune.ArtifactsDir, artifact.CheckpointDir)
		check(t, os.WriteFile(dir, nil, 0o600)) // a file in place of the folder
	}}
	_, errs := j.train(t)
	for rank, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "rank 0: mkdir ") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// stopAt is a hook that interrupts a run after a step.
type stopAt int

func (s stopAt) OnStart(*ortrain.Trainer) error { return nil }

func (s stopAt) OnStep(_ *ortrain.Trainer, x ortrain.Step) error {
	if x.Step == int(s) {
		return ortrain.ErrInterrupted
	}
	return nil
}

func (s stopAt) OnEnd(*ortrain.Trainer, error) error { return nil }

// closeTo compares two buffers of parameters or moments by the largest element.
func closeTo(a, b []float32, within float64) bool {
	scale, far := 0.0, 0.0
	for i := range a {
		scale, far = max(scale, math.Abs(float64(a[i]))), max(far, math.Abs(float64(a[i]-b[i])))
	}
	return len(a) == len(b) && far <= within*scale
}

// newestTensors reads all tensors of a run's newest checkpoint, by name.
func newestTensors(t *testing.T, c config.Train) map[string][]float32 {
	t.Helper()
	names := checkpointNames(t, c)
	f, err := safetensors.Open(filepath.Join(c.OutputDir, finetune.ArtifactsDir, artifact.CheckpointDir, names[len(names)-1], "state.safetensors"))
	check(t, err)
	defer f.Close()
	out := map[string][]float32{}
	for _, x := range f.Tensors {
		out[x.Name], err = x.Float32()
		check(t, err)
	}
	return out
}

// With sharded moments, parameters and moments after 10 steps are those of a job that is not sharded, and the same bits on all
// ranks. A stopped job can be resumed with and without the option; with it, the result is that of a job never stopped.
func TestShardedOptimizerIsTheSame(t *testing.T) {
	for _, n := range []int{2, 3} {
		run := func(sharded bool, rows config.List) job {
			j := job{config: jobConfig(t), ranks: n}
			j.config.ShardOptimizer, j.config.Epochs, j.config.MaxSteps = sharded, 3, 10
			if rows != nil {
				j.config.TrainDataset = rows
			}
			return j
		}
		trained := func(j job) []float32 {
			t.Helper()
			parameters, errs := j.train(t)
			check(t, errors.Join(errs...))
			for rank := range parameters {
				if !slices.Equal(parameters[rank], parameters[0]) {
					t.Errorf("%d ranks, sharded %v: rank %d has other parameters than rank 0", n, j.config.ShardOptimizer, rank)
				}
			}
			return parameters[0]
		}
		whole := run(false, nil)
		sharded := run(true, whole.config.TrainDataset)
		want, got := trained(whole), trained(sharded)
		if !closeTo(got, want, 1e-6) {
			t.Errorf("%d ranks: the parameters differ", n)
		}
		a, b := newestTensors(t, whole.config), newestTensors(t, sharded.config)
		if len(a) != len(b) || len(a) < 30 {
			t.Fatalf("%d and %d tensors", len(a), len(b))
		}
		for name := range a {
			if !closeTo(b[name], a[name], 1e-6) {
				t.Errorf("%d ranks: %s differs", n, name)
			}
		}
		if n > 2 {
			continue
		}
		for _, first := range []bool{true, false} {
			for _, then := range []bool{true, false} {
				j := run(first, whole.config.TrainDataset)
				j.hook = stopAt(4)
				for rank, err := range second(j.train(t)) {
					if !errors.Is(err, ortrain.ErrInterrupted) {
						t.Fatalf("rank %d: %v", rank, err)
					}
				}
				j.hook, j.resume, j.config.ShardOptimizer = nil, true, then
				again := trained(j)
				if first && then && !slices.Equal(again, got) || !closeTo(again, want, 1e-6) {
					t.Errorf("%d ranks, sharded %v, resumed %v: the parameters differ", n, first, then)
				}
			}
		}
	}
}

func second[A, B any](_ A, b B) B { return b }

// One rank says that it has nothing to shard.
func TestShardedOptimizerAlone(t *testing.T) {
	r, err := prepare(t, modelcard.Embedding, "bert", `{"query":"a","pos":"b"}`+"\n"+`{"query":"c","pos":"d"}`+"\n", func(c *config.Train) { c.ShardOptimizer = true })
	check(t, err)
	if got := strings.Join(r.Notes, "|"); !strings.Contains(got, "shard_optimizer: ") {
		t.Errorf("said %q", got)
	}
}

// Ranks that would save, compare or shard differently need each other in different steps: they are refused.
func TestRanksMustShardAlike(t *testing.T) {
	c := jobConfig(t)
	for rank, err := range disttest.Ranks(2, func(comm dist.Comm) error {
		mine := c
		if comm.Rank() == 1 {
			mine.ShardOptimizer, mine.SaveSteps, mine.Threads = true, 3, 2
		}
		_, err := finetune.PrepareRank(t.Context(), mine, reranker.NewTask, resolve.Resolver{}, "test", comm)
		return err
	}) {
		if err == nil || !strings.Contains(err.Error(), "rank 1: it differs from rank 0: save_steps is 3, there 0; shard_optimizer is true, there false") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// Sharded moments are the same as whole ones with a loss scale, whose first steps overflow and are skipped by all ranks, and with
// device memory.
func TestShardedOptimizerElsewhere(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.name != "stella" { // its first step overflows in float16
			continue
		}
		for _, v := range []variant{{groups: 2, precision: "fp16"}, {groups: 2, precision: "no", device: runtime.CPU}} {
			t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
				whole, _ := f.trainRanks(t, v, 2, false)
				sharded, last := f.trainRanks(t, v, 2, true)
				if !slices.Equal(sharded[0], sharded[1]) || !closeTo(sharded[0], whole[0], 1e-6) {
					t.Error("the parameters differ")
				}
				if last[0] != last[1] || v.precision == "fp16" && last[0].Skipped == 0 {
					t.Errorf("the last steps are %+v", last)
				}
			})
		}
	}
}

// trainRanks trains a fixture's model on ranks that have all of its rows but one each. It returns each rank's parameters and last
// step.
func (f fixture) trainRanks(t *testing.T, v variant, ranks int, sharded bool) ([][]float32, []ortrain.Step) {
	t.Helper()
	parameters, last := make([][]float32, ranks), make([]ortrain.Step, ranks)
	task, set := f.build(t, v)
	var sessions []runtime.Options
	var batches [][]*ortrain.Batch
	for rank := range ranks {
		sessions, batches = append(sessions, v.session(t)), append(batches, f.batch(t, task, rank))
	}
	check(t, errors.Join(disttest.Ranks(ranks, func(comm dist.Comm) (err error) {
		rank := comm.Rank()
		tr, err := ortrain.NewTrainer(set, ortrain.Config{
			Schedule: optim.Schedule{Kind: "constant", Peak: f.cfg.LR, Total: 10}, AdamW: f.cfg.AdamW(), MaxGradNorm: 1,
			Session: sessions[rank], Comm: comm, ShardOptimizer: sharded,
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, tr.Close()) }()
		if err := tr.Fill(task.Fill); err != nil {
			return err
		}
		for range 10 {
			if last[rank], err = tr.Step(batches[rank]); err != nil {
				return err
			}
		}
		p, err := tr.Parameters()
		parameters[rank] = slices.Clone(p)
		return err
	})...))
	return parameters, last
}
