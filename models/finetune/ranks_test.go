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

func (h *hungryTask) Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	batches, err := h.Task.Collate(epoch, examples)
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

func (n *nanTask) Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	batches, err := n.Task.Collate(epoch, examples)
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
