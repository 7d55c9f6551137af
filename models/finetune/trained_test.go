package finetune_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/flat"
)

// trainedRows are rows for every kind.
func trainedRows() string {
	var rows strings.Builder
	for i := range 16 {
		fmt.Fprintf(&rows, `{"query":"a b %s","pos":"%s","neg":["x y %d"]}`+"\n", strings.Repeat("c ", i%3), strings.Repeat("d e ", 1+i%5), i)
	}
	return rows.String()
}

// partly are settings by which only a part of the parameters is trained, and what trained tensors have in their names.
var partly = map[string]struct {
	set     func(c *config.Train)
	trained func(name string) bool
}{
	"adapters": {
		func(c *config.Train) {
			c.LoraRank, c.LoraDropout, c.LoraTargets = 3, 0.2, config.List{"query,value", "dense"}
		},
		func(name string) bool { return strings.Contains(name, ".lora_") || isHead(name) },
	},
	"frozen": {
		func(c *config.Train) { c.Freeze = config.List{"embeddings", "layers:1"} },
		func(name string) bool {
			return !strings.HasPrefix(name, "embeddings.") && !strings.HasPrefix(name, "encoder.layer.0.")
		},
	},
}

func isHead(name string) bool {
	return strings.HasPrefix(name, "classifier.") || strings.HasPrefix(name, "pooler.") || strings.HasPrefix(name, "colbert_linear.")
}

// trainPartly runs a training and returns the layout and the parameters before and after. A run with cancelAt above 0 stops there.
func trainPartly(t *testing.T, kind modelcard.Kind, out string, cancelAt int, resume bool, set func(c *config.Train)) (l *flat.Layout, before, after []float32) {
	t.Helper()
	model := map[modelcard.Kind]string{modelcard.Reranker: "bert-reranker"}[kind]
	if model == "" {
		model = "bert"
	}
	rows := filepath.Join(filepath.Dir(out), "rows.jsonl") // a resumed run needs the same file
	check(t, os.WriteFile(rows, []byte(trainedRows()), 0o600))
	r, err := openRun(t, kind, model, "", func(c *config.Train) {
		c.TrainDataset = config.List{rows}
		c.OutputDir, c.Epochs, c.MaxSteps, c.LR, c.Dropout = out, 3, 6, 1e-2, 0.1
		set(c)
	})
	check(t, err)
	defer func() { check(t, r.Close()) }()
	begin := r.Start
	if resume {
		begin = r.Resume
	}
	p, err := r.Trainer.Parameters()
	check(t, err)
	before = slices.Clone(p)
	check(t, begin(func(err error) { t.Error(err) }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.Train(ctx, nil, at{cancelAt, cancel}); cancelAt > 0 != errors.Is(err, ortrain.ErrInterrupted) {
		t.Fatal(err)
	}
	p, err = r.Trainer.Parameters()
	check(t, err)
	return r.Trainer.Layout(), before, slices.Clone(p)
}

// In every kind, what is frozen stays the same to the bit, and every other tensor changes. A checkpoint has the trained tensors and
// their moments only. A stopped run goes on to the same parameters.
func TestPartlyTrained(t *testing.T) {
	for name, x := range partly {
		for _, kind := range modelcard.Kinds {
			t.Run(fmt.Sprint(kind, " ", name), func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out")
				l, before, after := trainPartly(t, kind, out, 0, false, x.set)
				saved, trained := newestTensors(t, config.Train{OutputDir: out}), 0
				check(t, l.Each(after, func(p flat.Param, now []float32) error {
					was, err := l.View(before, p.Name)
					check(t, err)
					if want := x.trained(p.Name); p.Frozen == want || slices.Equal(now, was) == want {
						t.Errorf("%s: frozen %v, unchanged %v", p.Name, p.Frozen, slices.Equal(now, was))
					}
					for _, prefix := range []string{"", "exp_avg/", "exp_avg_sq/"} {
						if saved[prefix+p.Name] == nil != p.Frozen {
							t.Errorf("the checkpoint has %s%s: %v", prefix, p.Name, !p.Frozen)
						}
					}
					if !p.Frozen {
						trained++
					}
					return nil
				}))
				if len(saved) != 3*trained || trained == 0 {
					t.Errorf("the checkpoint has %d tensors for %d trained ones", len(saved), trained)
				}
				stopped := filepath.Join(filepath.Dir(out), "stopped")
				trainPartly(t, kind, stopped, 3, false, x.set)
				if _, _, again := trainPartly(t, kind, stopped, 0, true, x.set); !slices.Equal(again, after) {
					t.Error("the parameters differ after a resume")
				}
			})
		}
	}
}

// A checkpoint has no frozen weights. If the base model changed since, the run is not resumed: adapters belong to their base.
func TestResumeOverAnotherBase(t *testing.T) {
	base, out := filepath.Join(t.TempDir(), "base"), filepath.Join(t.TempDir(), "out")
	check(t, os.CopyFS(base, os.DirFS("testdata/bert")))
	rows := filepath.Join(filepath.Dir(out), "rows.jsonl")
	check(t, os.WriteFile(rows, []byte(trainedRows()), 0o600))
	open := func() *finetune.Run {
		r, err := openRun(t, modelcard.Embedding, "bert", "", func(c *config.Train) {
			c.Model, c.TrainDataset, c.OutputDir, c.LoraRank, c.MaxSteps = base, config.List{rows}, out, 2, 2
		})
		check(t, err)
		return r
	}
	r := open()
	check(t, r.Start(func(err error) { t.Error(err) }))
	check(t, r.Train(t.Context(), nil))
	check(t, r.Close())
	changed := filepath.Join(base, "config.json")
	b, err := os.ReadFile(changed)
	check(t, err)
	b = append(b, 10)
	check(t, os.WriteFile(changed, b, 0o600))
	r = open()
	defer func() { check(t, r.Close()) }()
	if err := r.Resume(func(err error) { t.Error(err) }); err == nil || !strings.Contains(err.Error(), "was made over another base model: model_name_or_path config.json is ") {
		t.Error(err)
	}
}

// Several ranks, with and without a sharded optimizer, train the same adapters.
func TestRanksTrainAdapters(t *testing.T) {
	run := func(ranks, batch int, sharded bool, rows config.List) (job, []float32) {
		j := job{config: jobConfig(t), ranks: ranks}
		j.config.LoraRank, j.config.ShardOptimizer, j.config.BatchSize, j.config.Dropout = 3, sharded, batch, 0
		if rows != nil {
			j.config.TrainDataset = rows
		}
		parameters, errs := j.train(t)
		check(t, errors.Join(errs...))
		for rank := range parameters {
			if !slices.Equal(parameters[rank], parameters[0]) {
				t.Errorf("%d ranks, sharded %v: rank %d has other parameters than rank 0", ranks, sharded, rank)
			}
		}
		return j, parameters[0]
	}
	one, want := run(1, 4, false, nil)
	for _, sharded := range []bool{false, true} {
		if _, got := run(2, 2, sharded, one.config.TrainDataset); !closeTo(got, want, 1e-5) {
			t.Errorf("two ranks, sharded %v: other parameters than one rank", sharded)
		}
	}
}

// Settings that contradict each other, or name what is not there, are refused.
func TestTrainedSettings(t *testing.T) {
	for want, set := range map[string]func(c *config.Train){
		`lora_targets: no linear layer of model_type bert is called "q_proj", want all-linear or some of: attention.self.query`: func(c *config.Train) { c.LoraRank, c.LoraTargets = 4, config.List{"q_proj"} },
		"lora_alpha is set, but lora_rank is 0":            func(c *config.Train) { c.LoraAlpha = 8 },
		"merge is set, but lora_rank is 0":                 func(c *config.Train) { c.Merge = true },
		"with lora_rank the whole encoder is frozen":       func(c *config.Train) { c.LoraRank, c.Freeze = 4, config.List{"embeddings"} },
		`freeze has "head", want embeddings or layers:N`:   func(c *config.Train) { c.Freeze = config.List{"head"} },
		`freeze has "layers:x", want layers:N`:             func(c *config.Train) { c.Freeze = config.List{"layers:x"} },
		"freeze has layers:99, but the model has 2 layers": func(c *config.Train) { c.Freeze = config.List{"layers:99"} },
		"lora_rank is 2000, want at most 1024":             func(c *config.Train) { c.LoraRank = 2000 },
		"lora_dropout is 1, want at least 0 and below 1":   func(c *config.Train) { c.LoraRank, c.LoraDropout = 4, 1 },
		"nothing is left to train":                         func(c *config.Train) { c.Freeze = config.List{"embeddings, layers:2"} },
	} {
		if _, err := prepare(t, modelcard.Embedding, "bert", trainedRows(), set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
