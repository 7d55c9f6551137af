package finetune_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	"rag-retrieval-go/ortrain/dropout"
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
	comm   func(c dist.Comm) dist.Comm                   // changes the connection of a rank; nil for none
}

// train trains a job. It returns each rank's parameters and error.
func (j job) train(t *testing.T) (parameters [][]float32, errs []error) {
	t.Helper()
	parameters = make([][]float32, j.ranks)
	errs = disttest.Ranks(j.ranks, func(comm dist.Comm) error {
		open := func(c config.Train) (finetune.Task, error) {
			task, err := newTask[c.Kind](c)
			if err == nil && j.task != nil {
				task = j.task(comm.Rank(), task)
			}
			return task, err
		}
		if j.comm != nil {
			comm = j.comm(comm)
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

// hungryTask is a model that can be told to take as many values as no machine has memory for.
type hungryTask struct {
	finetune.Task
	at, calls int // the call of Collate that makes such a batch
}

func (h *hungryTask) Gather() { h.Task.(finetune.Gatherer).Gather() }

func (h *hungryTask) Model() artifact.Model {
	m := h.Task.Model()
	encode := m.Encode
	m.Encode = func(g *onnx.Graph, param func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
		zeros := g.Input("zeros", onnx.Float32, onnx.NamedDim("zeros"), onnx.Dim{Size: 1})
		return g.Add(encode(g, param, drop), g.ReduceSum(g.Mul(zeros, g.Transpose(zeros, 1, 0)), false))
	}
	return m
}

func (h *hungryTask) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	batches, err := h.Task.Collate(b)
	h.calls++
	n := 1
	if h.calls == h.at {
		n = 1 << 23 // their products are more than the addresses of a process
	}
	for _, b := range batches {
		encoded := b.Chunks
		if encoded == nil {
			encoded = []*ortrain.Batch{b}
		}
		for _, x := range encoded {
			x.Float("zeros", make([]float32, n), int64(n), 1)
		}
	}
	return batches, err
}

// When any rank runs out of memory, rank 0 saves a checkpoint of the step before, and the resumed job is the job that was never
// stopped; also where the other ranks wait for its passages.
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
	for _, c := range []config.Train{jobConfig(t), pairsConfig(t)} {
		whole := job{config: c, ranks: 2, task: hungry(-1, 0)}
		want, errs := whole.train(t)
		check(t, errors.Join(errs...))
		for who := range 2 {
			stopped := job{config: c, ranks: 2, task: hungry(who, 4)}
			stopped.config.OutputDir = filepath.Join(t.TempDir(), "stopped")
			_, errs := stopped.train(t)
			for rank, err := range errs {
				if !errors.Is(err, ortrain.ErrUnchanged) || !strings.Contains(err.Error(), fmt.Sprintf("rank %d: ", who)) || !strings.Contains(err.Error(), "out of memory") {
					t.Errorf("%s: rank %d: %v", c.Kind, rank, err)
				}
			}
			if names := checkpointNames(t, stopped.config); !slices.Equal(names, []string{"step-00000003"}) {
				t.Fatalf("%s: rank %d ran out of memory: the checkpoints are %v", c.Kind, who, names)
			}
			stopped.resume, stopped.task = true, hungry(-1, 0)
			got, errs := stopped.train(t)
			check(t, errors.Join(errs...))
			for rank := range got {
				if !slices.Equal(got[rank], want[0]) {
					t.Errorf("%s: the resumed job's parameters differ on rank %d", c.Kind, rank)
				}
			}
		}
	}
}

// pairsConfig is a short run of an embedding model with the negatives of all ranks.
func pairsConfig(t *testing.T) config.Train {
	c := jobConfig(t)
	var rows strings.Builder
	for i := range 24 {
		fmt.Fprintf(&rows, `{"query":"a b %s","pos":"%c e %s"}`+"\n", strings.Repeat("c ", i%3), 'a'+i%20, strings.Repeat("d ", i%4))
	}
	check(t, os.WriteFile(c.TrainDataset[0], []byte(rows.String()), 0o600))
	pairs := config.DefaultTrain(modelcard.Embedding)
	pairs.Model, pairs.TrainDataset, pairs.OutputDir = "testdata/bert", c.TrainDataset, c.OutputDir
	pairs.QueryMaxLen, pairs.PassageMaxLen, pairs.Threads, pairs.BatchSize, pairs.Epochs, pairs.LR, pairs.Dropout = 9, 14, 1, 2, 1, 1e-3, 0.1
	return pairs
}

// lateTask is a model that can be told to fail in the backward pass of a batch.
type lateTask struct {
	finetune.Task
	at, calls int // the call of Collate that makes such a batch
}

func (l *lateTask) Gather() { l.Task.(finetune.Gatherer).Gather() }

func (l *lateTask) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	batches, err := l.Task.Collate(b)
	if l.calls++; err != nil || l.calls != l.at {
		return batches, err
	}
	chunk, passes := batches[0].Chunks[0], 0
	large := chunk.Large
	chunk.Large = func(b *ortrain.Batch) {
		if large != nil {
			large(b)
		}
		if passes++; passes == 2 { // the first is the forward pass
			b.Float("late", []float32{0}, 2)
		}
	}
	return batches, nil
}

// A rank that fails after the ranks have compared their passages, in any micro-batch of a step, ends all of them with its error.
func TestOneRankFailsInBackwardPass(t *testing.T) {
	for _, at := range []int{3, 4} { // the second step's micro-batches
		for who := range 2 {
			j := job{config: pairsConfig(t), ranks: 2, task: func(rank int, task finetune.Task) finetune.Task {
				l := &lateTask{Task: task}
				if rank == who {
					l.at = at
				}
				return l
			}}
			j.config.GradientAccumulationSteps = 2
			_, errs := j.train(t)
			for rank, err := range errs {
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rank %d: ", who)) || !strings.Contains(err.Error(), `"late": 1 elements`) ||
					strings.Contains(err.Error(), "another one in") || strings.Contains(err.Error(), "left the job") {
					t.Errorf("micro-batch %d of rank %d: rank %d: %v", at, who, rank, err)
				}
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

// Ranks with other settings or programs are refused at the start, with what differs.
func TestRanksMustBeAlike(t *testing.T) {
	c := jobConfig(t)
	for name, x := range map[string]struct {
		change  func(c *config.Train, version *string)
		differs string
	}{
		"configuration": {func(c *config.Train, _ *string) { c.LR, c.BatchSize = 2e-3, 3 }, "batch_size is 3, there 2; lr is 0.002, there 0.001"},
		"program":       {func(_ *config.Train, version *string) { *version = "another" }, "program is another, there test"},
	} {
		for rank, err := range disttest.Ranks(2, func(comm dist.Comm) error {
			mine, version := c, "test"
			if comm.Rank() == 1 {
				x.change(&mine, &version)
			}
			_, err := finetune.PrepareRank(t.Context(), mine, reranker.NewTask, resolve.Resolver{}, version, comm)
			return err
		}) {
			if err == nil || !strings.Contains(err.Error(), "rank 1: it differs from rank 0: ") || !strings.Contains(err.Error(), x.differs) {
				t.Errorf("%s, rank %d: %v, want %q", name, rank, err, x.differs)
			}
		}
	}
	v, first := finetune.Versions{Program: "1", Runtime: "1.31.0"}, finetune.Versions{Program: "1", Runtime: "1.32.0"}
	if got, want := v.Differences(first), []string{"ONNX Runtime is 1.31.0, there 1.32.0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
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
				last[0].Times, last[1].Times = ortrain.Times{}, ortrain.Times{}
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

// noisy is a connection whose fifth sum of gradients arrives with a wrong value at rank 1.
type noisy struct {
	dist.Comm
	sums int
}

func (n *noisy) AllReduce(values []float32, op dist.Op) error {
	err := n.Comm.AllReduce(values, op)
	if n.sums++; n.sums == 5 && n.Rank() == 1 {
		values[7]++
	}
	return err
}

// A rank whose parameters differ ends the job with its number and the step, before a checkpoint of that step is saved.
func TestCheckSteps(t *testing.T) {
	for every, want := range map[int]struct{ err, newest string }{
		1: {"all ranks: after step 5: the parameters of rank 1 are not the same as those of rank 0, ", "step-00000004"},
		3: {"all ranks: after step 6: the parameters of rank 1 are not the same as those of rank 0, ", "step-00000005"},
		0: {"", "step-00000010"},
	} {
		j := job{config: jobConfig(t), ranks: 2, comm: func(c dist.Comm) dist.Comm { return &noisy{Comm: c} }}
		j.config.CheckSteps, j.config.SaveSteps, j.config.Epochs, j.config.MaxSteps = every, 1, 2, 10
		_, errs := j.train(t)
		for rank, err := range errs {
			if want.err == "" && err != nil || want.err != "" && (err == nil || !strings.HasPrefix(err.Error(), want.err)) {
				t.Errorf("check_steps %d: rank %d: %v", every, rank, err)
			}
		}
		if names := checkpointNames(t, j.config); names[len(names)-1] != want.newest {
			t.Errorf("check_steps %d: the checkpoints are %v", every, names)
		}
	}
}

// With dropout a job of the same ranks repeats bit by bit, sharded or not, in chunks or not, and its ranks have the same
// parameters after each step.
func TestJobRepeats(t *testing.T) {
	for _, set := range []func(c *config.Train){
		func(*config.Train) {}, func(c *config.Train) { c.ShardOptimizer = true },
		func(c *config.Train) { c.LossType, c.ChunkTokens, c.TrainDataset = "listwise_ce", 24, groupsFile(t) },
	} {
		var first []float32
		for range 2 {
			j := job{config: jobConfig(t), ranks: 2}
			j.config.CheckSteps, j.config.Dropout = 1, 0.3
			set(&j.config)
			parameters, errs := j.train(t)
			check(t, errors.Join(errs...))
			if first == nil {
				first = parameters[0]
			}
			if !slices.Equal(parameters[0], first) || !slices.Equal(parameters[1], first) {
				t.Error("the parameters differ")
			}
		}
	}
}

// groupsFile is a file of queries with several passages.
func groupsFile(t *testing.T) config.List {
	var rows strings.Builder
	for i := range 8 {
		fmt.Fprintf(&rows, `{"query":"a b","hits":[{"content":"c d%s","label":1},{"content":"e a%s","label":0}]}`+"\n", strings.Repeat(" d", i), strings.Repeat(" b", i%3))
	}
	path := filepath.Join(t.TempDir(), "groups.jsonl")
	check(t, os.WriteFile(path, []byte(rows.String()), 0o600))
	return config.List{path}
}

// Ranks drop different elements: the same batch has other gradients on another rank, and the same again on the same rank. Without
// dropout all ranks have the same.
func TestRanksDropDifferently(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.name != "infonce" && f.name != "listwise" {
			continue
		}
		for _, chunk := range []int{0, 12} {
			for _, rate := range []float64{0, 0.3} {
				f.cfg.Dropout = rate
				task, set := f.build(t, variant{groups: 2, chunkTokens: chunk, precision: "no"})
				batch := f.batch(t, task, -1)
				var mutex sync.Mutex // all ranks share the batch
				gradients := make([][2][]float32, 3)
				check(t, errors.Join(disttest.Ranks(3, func(comm dist.Comm) (err error) {
					mutex.Lock()
					defer mutex.Unlock()
					for again := range 2 {
						tr, err := ortrain.NewTrainer(set, ortrain.Config{Schedule: optim.Schedule{Kind: "constant", Peak: 1e-3, Total: 1}, Seed: 7, Comm: comm})
						if err != nil {
							return err
						}
						if err := tr.Fill(task.Fill); err != nil {
							return errors.Join(err, tr.Close())
						}
						_, g, err := tr.Gradients(batch...)
						gradients[comm.Rank()][again] = slices.Clone(g)
						if err := errors.Join(err, tr.Close()); err != nil {
							return err
						}
					}
					return nil
				})...))
				for rank, g := range gradients {
					if !slices.Equal(g[0], g[1]) {
						t.Errorf("%s, dropout %g, chunks of %d: rank %d does not repeat", f.name, rate, chunk, rank)
					}
					if next := gradients[(rank+1)%3]; slices.Equal(g[0], next[0]) != (rate == 0) {
						t.Errorf("%s, dropout %g, chunks of %d: ranks %d and %d drop alike: %v", f.name, rate, chunk, rank, (rank+1)%3, rate > 0)
					}
				}
			}
		}
	}
}

// Each rank writes its own profile, and the model card says how many ranks had a batch of which size.
func TestJobProfileAndCard(t *testing.T) {
	j := job{config: jobConfig(t), ranks: 2}
	j.config.Profile, j.config.MaxSteps = filepath.Join(t.TempDir(), "profile"), 2
	check(t, errors.Join(second(j.train(t))...))
	for rank := range 2 {
		if paths, err := filepath.Glob(fmt.Sprintf("%s_rank%d_*", j.config.Profile, rank)); err != nil || len(paths) == 0 {
			t.Errorf("rank %d has the profiles %v, %v", rank, paths, err)
		}
	}
	dir := filepath.Join(j.config.OutputDir, finetune.ModelDir)
	c, ok, err := modelcard.Read(dir)
	if err != nil || !ok || c.Ranks != 2 || c.BatchSize != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, modelcard.MarkdownFile))
	check(t, err)
	if want := "| steps | 2 of 2 ranks × 2 examples |"; !strings.Contains(string(text), want) {
		t.Errorf("the card has no %q:\n%s", want, text)
	}
}
