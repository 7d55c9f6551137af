package finetune_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/finetune/record"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/flat"
)

var words = strings.Fields("apple pear plum fig kiwi lime 苹果 密码 水果 链接 天气 重置")

// pairs are rows whose passages repeat the query's word; swapped says that the positives are those of other rows.
func pairs(swapped bool) string {
	var b strings.Builder
	for i, w := range words {
		pos, neg := w, words[(i+1)%len(words)]
		if swapped {
			pos, neg = neg, pos
		}
		fmt.Fprintf(&b, `{"query":"%s","pos":"%s","neg":"%s"}`+"\n", w, pos, neg)
	}
	return b.String()
}

func groups() string {
	var b strings.Builder
	for i, w := range words {
		fmt.Fprintf(&b, `{"query":"%s","hits":[{"content":"%s","label":1},{"content":"%s","label":0},{"content":"%s","label":0}]}`+"\n", w, w, words[(i+1)%len(words)], words[(i+3)%len(words)])
	}
	return b.String()
}

func scoredPairs() string {
	var b strings.Builder
	for i, w := range words {
		fmt.Fprintf(&b, `{"query":"%s","pos":["%s","%s"],"scores":[0.9,0.2]}`+"\n", w, w, words[(i+1)%len(words)])
	}
	return b.String()
}

// change sets tensors of a model, each to one value.
func change(t *testing.T, tr *ortrain.Trainer, values map[string]float32) {
	t.Helper()
	changed := 0
	check(t, tr.Fill(func(l *flat.Layout, parameters []float32) error {
		return l.Each(parameters, func(p flat.Param, tensor []float32) error {
			for name, x := range values {
				if strings.HasSuffix(p.Name, name) {
					for i := range tensor {
						tensor[i] = x
					}
					changed++
				}
			}
			return nil
		})
	}))
	if changed < len(values) {
		t.Fatalf("%d tensors were changed", changed)
	}
}

// constantEncoder makes the last layer's states the same for all tokens of all texts.
var constantEncoder = map[string]float32{"layer.1.output.LayerNorm.weight": 0, "layer.1.output.LayerNorm.bias": 0.3}

func withValidation(t *testing.T, rows string, set func(c *config.Train)) func(c *config.Train) {
	path := filepath.Join(t.TempDir(), "val.jsonl")
	check(t, os.WriteFile(path, []byte(rows), 0o600))
	return func(c *config.Train) {
		c.ValDataset, c.MaxSteps, c.EvalSteps = config.List{path}, 3, 1
		if set != nil {
			set(c)
		}
	}
}

// firstValidations trains until n validations were made.
func firstValidations(t *testing.T, r *finetune.Run, n int) (out []finetune.Validation) {
	t.Helper()
	check(t, r.Start(func(err error) { t.Error(err) }))
	enough := errors.New("enough")
	err := r.Train(t.Context(), func(v finetune.Validation) error {
		if out = append(out, v); len(out) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return out
}

// A model whose scores do not tell passages apart, or whose loss starts far too high, is noticed at the first validation.
func TestImplausibleValidations(t *testing.T) {
	for _, c := range []struct {
		name, model, rows string
		kind              modelcard.Kind
		set               func(c *config.Train)
		values            map[string]float32
		want              []string
	}{
		{"an embedding model that ignores its text", "bert", pairs(false), modelcard.Embedding, nil, constantEncoder,
			[]string{"the scores of the base model collapsed", "in the median query", "weights of a trained model", "the mean of the tokens' states"}},
		{"a ColBERT model that ignores its text", "bert", pairs(false), modelcard.ColBERT, nil, constantEncoder,
			[]string{"the scores of the base model collapsed", "projected to"}},
		{"a reranker with zeros as its last layer", "bert-reranker", pairs(false), modelcard.Reranker, nil, map[string]float32{"classifier.weight": 0, "classifier.bias": 0},
			[]string{"the scores of the base model collapsed", "differ by 0 in", "all 24 scores are from 0 to 0"}},
		{"a reranker that is sure of everything", "bert-reranker", groups(), modelcard.Reranker, func(c *config.Train) { c.LossType = "listwise_ce" }, map[string]float32{"classifier.bias": 12},
			[]string{"the scores of the base model are saturated: all 36", "so that their sigmoid is 1 for every pair"}},
		{"a reranker that is sure of nothing", "bert-reranker", groups(), modelcard.Reranker, nil, map[string]float32{"classifier.bias": -12},
			[]string{"saturated", "sigmoid is 0 for"}},
		{"a reranker whose labels say the opposite", "bert-reranker", groups(), modelcard.Reranker, nil, map[string]float32{"classifier.bias": 8},
			[]string{"the validation loss of the base model is far too high: 4.99", "equal scores for all passages would give 0.6931", "labels are not swapped (1 counts as 1, 0 as 0)"}},
		{"positives of other rows", "bert", pairs(true), modelcard.Embedding, func(c *config.Train) { c.Temperature = 0.001 }, nil,
			[]string{"the validation loss of the base model is far too high", "temperature (0.001)", `"pos" and "neg" are not swapped`}},
		{"positives of other rows, in chunks", "bert", pairs(true), modelcard.Embedding, func(c *config.Train) { c.Temperature, c.ChunkTokens, c.NegNums = 0.001, 30, 1 }, nil,
			[]string{"the validation loss of the base model is far too high"}},
		{"positives of other rows for ColBERT", "bert", pairs(true), modelcard.ColBERT, func(c *config.Train) { c.Temperature = 0.001 }, nil,
			[]string{"the validation loss of the base model is far too high", "temperature (0.001)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := prepare(t, c.kind, c.model, c.rows, withValidation(t, c.rows, c.set))
			check(t, err)
			if c.values != nil {
				change(t, r.Trainer, c.values)
			}
			got := firstValidations(t, r, 1)
			for _, want := range c.want {
				if !strings.Contains(got[0].Warning, want) {
					t.Errorf("%q, want %q", got[0].Warning, want)
				}
			}
			if strings.Contains(got[0].Warning, "\n") {
				t.Errorf("not one line: %q", got[0].Warning)
			}
		})
	}
}

// What a loss is compared with is its value where all scores are equal; kl and pair_kl give an upper bound.
func TestEqualScoresLoss(t *testing.T) {
	compared := 0
	for _, f := range fixtures(t) {
		values := constantEncoder
		switch f.name {
		case "infonce", "infonce-hard", "infonce-negatives", "infonce-mrl", "contrastive", "cosent", "kl", "pair-kl":
		case "bce", "listwise", "ranknet":
			values = map[string]float32{"classifier.weight": 0, "classifier.bias": 0}
		default:
			continue
		}
		variants := []variant{{groups: 1, precision: "no"}}
		if slices.Contains([]string{"infonce-negatives", "contrastive", "listwise", "bce"}, f.name) {
			variants = append(variants, variant{groups: 2, chunkTokens: 12, precision: "no"})
		}
		for _, v := range variants {
			task, tr := f.trainer(t, v)
			change(t, tr, values)
			for _, b := range f.batch(t, task, -1) {
				compared++
				loss, equal := evalLossOf(t, tr, b), b.EqualScoresLoss()
				if bound := strings.HasSuffix(f.name, "kl"); math.Abs(loss-equal) > 1e-5 && (!bound || loss > equal) || equal == 0 {
					t.Errorf("%s, chunks of %d tokens: the loss is %g, said to be %g", f.name, v.chunkTokens, loss, equal)
				}
			}
		}
	}
	if compared < 15 {
		t.Errorf("%d batches", compared)
	}
}

// The usual models, rows and losses give no warning: random weights, new heads, every loss and architecture.
func TestPlausibleValidations(t *testing.T) {
	plausible := func(kind modelcard.Kind, model, loss string) {
		t.Run(model+" "+loss, func(t *testing.T) {
			rows := pairs(false)
			switch {
			case kind == modelcard.Reranker:
				rows = groups()
			case loss != "infonce" && loss != "contrastive":
				rows = scoredPairs()
			}
			r, err := prepare(t, kind, model, rows, withValidation(t, rows, func(c *config.Train) { c.LossType = loss }))
			check(t, err)
			for _, v := range firstValidations(t, r, 2) {
				if v.Warning != "" {
					t.Errorf("step %d: %s", v.Step, v.Warning)
				}
			}
		})
	}
	for kind, models := range map[modelcard.Kind][]string{
		modelcard.Embedding: {"bert", "xlmr", "modernbert", "qwen3"}, modelcard.ColBERT: {"bert", "modernbert"},
		modelcard.Reranker: {"bert-reranker", "xlmr-reranker", "electra-reranker", "modernbert-reranker", "qwen3-reranker"},
	} {
		losses := config.Losses[kind]
		for _, loss := range losses {
			if loss != "stella" { // has no validation loss
				plausible(kind, models[0], loss)
			}
		}
		for _, model := range models[1:] {
			plausible(kind, model, losses[0])
		}
	}
}

// A model that collapses in training is warned of once, in a resumed run too.
func TestWarningsAreGivenOnce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	check(t, os.WriteFile(path, []byte(pairs(false)), 0o600))
	set := withValidation(t, pairs(false), func(c *config.Train) {
		c.OutputDir, c.TrainDataset, c.LR, c.MaxSteps = out, config.List{path}, 1e-12, 4
	})
	open := func() *finetune.Run {
		r, err := openRun(t, modelcard.Embedding, "bert", "", set)
		check(t, err)
		return r
	}
	var told []string
	tell := func(v finetune.Validation) error {
		if v.Warning != "" {
			what, _, _ := strings.Cut(v.Warning, ":")
			told = append(told, fmt.Sprintf("%d %s", v.Step, what))
		}
		return nil
	}
	r := open()
	check(t, r.Start(func(err error) { t.Error(err) }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	constant := at{1, func() { change(t, r.Trainer, constantEncoder) }} // before the validation at step 1
	if err := r.Train(ctx, tell, constant, at{2, cancel}); !errors.Is(err, ortrain.ErrInterrupted) {
		t.Fatal(err)
	}
	check(t, r.Close())
	r = open()
	check(t, r.Resume(func(err error) { t.Error(err) }))
	check(t, r.Train(t.Context(), tell))
	check(t, r.Close())
	if got, want := strings.Join(told, "|"), "1 the scores after step 1 collapsed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The log shows the warnings, and files and report keep them; without validation data the first step's loss is looked at.
func TestWarningsAreRecorded(t *testing.T) {
	for _, c := range []struct {
		name, want string
		set        func(c *config.Train)
	}{
		{"validation", "the validation loss of the base model is far too high: ", withValidation(t, pairs(true), nil)},
		{"first step", "the loss of the first step is far too high: ", func(*config.Train) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := prepare(t, modelcard.Embedding, "bert", pairs(true), func(x *config.Train) {
				x.Temperature, x.Epochs = 0.001, 1
				c.set(x)
			})
			check(t, err)
			var shown bytes.Buffer
			log := record.NewLog(r.Config.OutputDir, 1, &shown)
			check(t, r.Start(func(err error) { t.Error(err) }))
			check(t, r.Train(t.Context(), log.Validated, log))
			check(t, log.Finish(r))
			report, err := os.ReadFile(filepath.Join(r.Config.OutputDir, record.ReportFile))
			check(t, err)
			rows, err := filepath.Glob(filepath.Join(r.Config.OutputDir, "*.jsonl"))
			check(t, err)
			var kept []byte
			for _, path := range rows {
				b, err := os.ReadFile(path)
				check(t, err)
				kept = append(kept, b...)
			}
			for where, text := range map[string]string{"log": shown.String(), "report": string(report), "files": string(kept)} {
				if n := strings.Count(text, c.want); n != 1 {
					t.Errorf("%s: the warning is there %d times:\n%s", where, n, text)
				}
			}
		})
	}
}
