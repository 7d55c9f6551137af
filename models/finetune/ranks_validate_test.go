package finetune_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
)

// scoringTask is a task whose second scoring begins with before.
type scoringTask struct {
	finetune.Task
	before func(ctx context.Context) (context.Context, error)
	calls  int
}

func (s *scoringTask) Score(ctx context.Context, t *ortrain.Trainer, ranks *dist.Dealer, samples []mteb.Sample) ([][]float32, error) {
	if s.calls++; s.calls == 2 {
		var err error
		if ctx, err = s.before(ctx); err != nil {
			return nil, ranks.Agree(err)
		}
	} else if s.calls > 2 {
		return nil, errors.New("scored again after the end")
	}
	return s.Task.Score(ctx, t, ranks, samples)
}

// validatedJob is a job of three ranks that validates every second step; before is of rank 1.
func validatedJob(t *testing.T, before func(ctx context.Context) (context.Context, error)) job {
	j := job{config: jobConfig(t), ranks: 3, task: func(rank int, task finetune.Task) finetune.Task {
		if before == nil {
			return task
		}
		s := &scoringTask{Task: task, before: func(ctx context.Context) (context.Context, error) { return ctx, nil }}
		if rank == 1 {
			s.before = before
		}
		return s
	}}
	j.config.ValDataset, j.config.EvalSteps = j.config.TrainDataset, 2
	return j
}

// A validation that one rank is interrupted in ends all of them as an interruption, with a checkpoint. The resumed job validates
// as the one that was never stopped.
func TestValidationIsInterruptedOnOneRank(t *testing.T) {
	validations := func(j job) string {
		b, err := os.ReadFile(filepath.Join(j.config.OutputDir, finetune.ValidationFile))
		check(t, err)
		return string(b)
	}
	whole := validatedJob(t, nil)
	_, errs := whole.train(t)
	check(t, errors.Join(errs...))
	stopped := validatedJob(t, func(ctx context.Context) (context.Context, error) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, nil
	})
	if _, errs = stopped.train(t); len(checkpointNames(t, stopped.config)) != 1 || strings.Count(validations(stopped), "\n") != 1 {
		t.Errorf("checkpoints %v, validations %s", checkpointNames(t, stopped.config), validations(stopped))
	}
	for rank, err := range errs {
		if !errors.Is(err, ortrain.ErrInterrupted) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	stopped.resume, stopped.task = true, nil
	_, errs = stopped.train(t)
	check(t, errors.Join(errs...))
	if validations(stopped) != validations(whole) {
		t.Errorf("%s\nnever stopped:\n%s", validations(stopped), validations(whole))
	}
}

// A validation that fails on one rank ends all of them with its error.
func TestValidationFailsOnOneRank(t *testing.T) {
	j := validatedJob(t, func(context.Context) (context.Context, error) { return nil, errors.New("no memory to score") })
	_, errs := j.train(t)
	for rank, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "no memory to score") || strings.Contains(err.Error(), "left the job") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// A validation compares as many queries as all ranks have in a step. It encodes them in passes that are no larger than a rank's
// step, for which graphs and dropout tables are made.
func TestValidationOfTheJobsBatch(t *testing.T) {
	c := pairsConfig(t)
	var rows strings.Builder
	for i := range 256 {
		fmt.Fprintf(&rows, `{"query":"%c %s","pos":"%c %s"}`+"\n", 'a'+i%20, strings.Repeat("b c ", 5), 'b'+i%19, strings.Repeat("d e ", 8))
	}
	check(t, os.WriteFile(c.TrainDataset[0], []byte(rows.String()), 0o600))
	c.ValDataset, c.BatchSize, c.MaxSteps = c.TrainDataset, 64, 1
	_, errs := job{config: c, ranks: 4}.train(t)
	check(t, errors.Join(errs...))
}
