package merge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/merge"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const folders = "../finetune/testdata/folders/"

var tasks = map[modelcard.Kind]finetune.NewTask{modelcard.Embedding: embedding.NewTask, modelcard.ColBERT: colbert.NewTask, modelcard.Reranker: reranker.NewTask}

// train trains a model for two steps with adapters of rank 3, unless set says otherwise, and returns its folder.
func train(t *testing.T, kind modelcard.Kind, model string, set func(c *config.Train)) (string, error) {
	t.Helper()
	rows := filepath.Join(t.TempDir(), "rows.jsonl")
	var text strings.Builder
	for i := range 8 {
		fmt.Fprintf(&text, `{"query": "query %d", "pos": "a passage %d", "neg": "weather %d"}`+"\n", i, i, i)
	}
	check(t, os.WriteFile(rows, []byte(text.String()), 0o600))
	c := config.DefaultTrain(kind)
	c.Model, c.TrainDataset, c.OutputDir = model, config.List{rows}, filepath.Join(t.TempDir(), "out")
	c.QueryMaxLen, c.PassageMaxLen, c.MaxLen, c.Threads, c.BatchSize, c.MaxSteps, c.LR, c.ColBERTDim = 24, 24, 400, 2, 4, 2, 1e-2, 8
	c.LoraRank, c.NegNums, c.GroupSize = 3, 1, 2
	if kind == modelcard.Reranker {
		c.LossType = "listwise_ce"
	}
	if set != nil {
		set(&c)
	}
	r, err := finetune.Prepare(t.Context(), c, tasks[kind], resolve.Resolver{}, "test")
	if err != nil {
		return "", err
	}
	defer func() { check(t, r.Close()) }()
	check(t, r.Start(func(err error) { t.Error(err) }))
	check(t, r.Train(t.Context(), nil))
	return r.ModelPath(), nil
}

// scoresOf are a model's scores of some documents.
func scoresOf(t *testing.T, dir string) []float32 {
	t.Helper()
	m, err := retriever.Open(t.Context(), dir, retriever.Options{Threads: 1})
	check(t, err)
	defer m.Close()
	scores, err := m.Scores(context.Background(), "query 1", "a passage 1", "weather 3", "x")
	check(t, err)
	return scores
}

func distance(a, b []float32) (d float64) {
	for i := range a {
		d = max(d, math.Abs(float64(a[i]-b[i])))
	}
	return d
}

func adapterConfig(t *testing.T, dir string) (c struct {
	Base    string   `json:"base_model_name_or_path"`
	Task    string   `json:"task_type"`
	Targets []string `json:"target_modules"`
	Saved   []string `json:"modules_to_save"`
}) {
	t.Helper()
	check(t, hf.ReadJSON(filepath.Join(dir, hf.AdapterConfigFile), &c))
	return c
}

// A training with lora_rank saves a PEFT folder, which opens with its base. It has the scores of the model that --merge saves, and of the one
// that Folder makes of it.
func TestAdaptersOfEveryKind(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	decoder := []string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}
	modern := []string{"Wi", "Wo", "Wqkv"}
	for _, x := range []struct {
		model          string
		kind           modelcard.Kind
		task           string
		targets, saved []string
	}{
		{"modernbert-embedding", modelcard.Embedding, "FEATURE_EXTRACTION", modern, nil},
		{"qwen3-colbert", modelcard.ColBERT, "FEATURE_EXTRACTION", decoder, nil},
		{"modernbert-colbert-pylate", modelcard.ColBERT, "FEATURE_EXTRACTION", modern, nil},
		{"modernbert-reranker", modelcard.Reranker, "SEQ_CLS", modern, []string{"head", "classifier"}},
		{"modernbert-embedding", modelcard.Reranker, "SEQ_CLS", modern, []string{"head", "classifier"}},
		{"qwen3-reranker", modelcard.Reranker, "SEQ_CLS", decoder, []string{"score"}},
		{"qwen3-embedding", modelcard.Reranker, "SEQ_CLS", decoder, []string{"score"}},
		{"qwen3-reranker-causal", modelcard.Reranker, "CAUSAL_LM", decoder, nil},
	} {
		t.Run(x.model+" as "+string(x.kind), func(t *testing.T) {
			base, err := filepath.Abs(folders + x.model)
			check(t, err)
			dir, err := train(t, x.kind, folders+x.model, nil)
			check(t, err)
			c := adapterConfig(t, dir)
			if c.Base != base || c.Task != x.task || !slices.Equal(c.Targets, x.targets) || !slices.Equal(c.Saved, x.saved) {
				t.Errorf("%+v, want base %s, %+v", c, base, x)
			}
			for _, name := range []string{"config.json", "model.safetensors", "model.onnx"} {
				if there, err := hf.Exists(filepath.Join(dir, name)); there || err != nil {
					t.Errorf("%s is there, or not known to be: %v", name, err)
				}
			}
			b, err := os.ReadFile(filepath.Join(dir, modelcard.MarkdownFile))
			check(t, err)
			if told := strings.Contains(string(b), `CrossEncoder("this-folder", config_kwargs={"pad_token_id": 297})`); told != (x.kind == modelcard.Reranker && x.model == "qwen3-embedding") {
				t.Errorf("the card: %s", b)
			}
			scores := scoresOf(t, dir)
			out := filepath.Join(t.TempDir(), "whole")
			check(t, merge.Folder(t.Context(), resolve.Resolver{}, dir, out, "test"))
			if d := distance(scores, scoresOf(t, out)); d > 1e-5 {
				t.Errorf("merged by Folder: scores differ by %g", d)
			}
			merged, err := train(t, x.kind, folders+x.model, func(c *config.Train) { c.Merge = true })
			check(t, err)
			if d := distance(scores, scoresOf(t, merged)); d > 1e-5 {
				t.Errorf("saved with merge: scores differ by %g", d)
			}
			if there, err := hf.Exists(filepath.Join(merged, "model.onnx")); !there || err != nil {
				t.Errorf("no model.onnx: %v", err)
			}
			if err := merge.Folder(t.Context(), resolve.Resolver{}, dir, out, "test"); err == nil || !strings.Contains(err.Error(), "is not empty") {
				t.Errorf("merged into a folder with files: %v", err)
			}
			if err := merge.Folder(t.Context(), resolve.Resolver{}, out, out+"2", "test"); err == nil || !strings.Contains(err.Error(), "has no adapter") {
				t.Errorf("a whole model is merged: %v", err)
			}
		})
	}
}

// An adapter is trained further with its own base, and as a whole model without lora_rank. Other settings than its own are refused.
func TestAdapterIsTrainedFurther(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	first, err := train(t, modelcard.Embedding, folders+"qwen3-embedding", func(c *config.Train) { c.LoraTargets, c.LoraAlpha = config.List{"q_proj", "layers.0.mlp.up_proj"}, 5 })
	check(t, err)
	before := adapterConfig(t, first)
	if !slices.Equal(before.Targets, []string{"0.mlp.up_proj", "q_proj"}) {
		t.Errorf("target_modules %q", before.Targets)
	}
	same, err := train(t, modelcard.Embedding, first, func(c *config.Train) { c.LR = 1e-30 })
	check(t, err)
	if d := distance(scoresOf(t, first), scoresOf(t, same)); d > 1e-5 {
		t.Errorf("trained further with a learning rate of almost nothing, scores change by %g", d)
	}
	further, err := train(t, modelcard.Embedding, first, nil)
	check(t, err)
	if d := distance(scoresOf(t, first), scoresOf(t, further)); d < 1e-4 {
		t.Errorf("trained further, scores change by only %g", d)
	}
	for _, dir := range []string{same, further} {
		if c := adapterConfig(t, dir); c.Base != before.Base || !slices.Equal(c.Targets, before.Targets) {
			t.Errorf("trained further: %+v, was %+v", c, before)
		}
	}
	whole, err := train(t, modelcard.Embedding, first, func(c *config.Train) { c.LoraRank, c.LR = 0, 1e-30 })
	check(t, err)
	if d := distance(scoresOf(t, first), scoresOf(t, whole)); d > 1e-5 {
		t.Errorf("trained as a whole with a learning rate of almost nothing, scores change by %g", d)
	}
	for want, set := range map[string]func(c *config.Train){
		"of r 3, lora_alpha 5, use_rslora false, which is trained further, but lora_rank is 4, lora_alpha 5": func(c *config.Train) { c.LoraRank = 4 },
		"but lora_rank is 3, lora_alpha 6":  func(c *config.Train) { c.LoraAlpha = 6 },
		"but is not among lora_targets":     func(c *config.Train) { c.LoraTargets = config.List{"q_proj"} },
		"has no adapter, but is among lora": func(c *config.Train) { c.LoraTargets = config.List{"q_proj", "up_proj"} },
	} {
		if _, err := train(t, modelcard.Embedding, first, set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The fingerprint of a model with an adapter follows the adapter's files and the base's.
func TestFingerprint(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	base, dir := filepath.Join(t.TempDir(), "base"), ""
	check(t, os.CopyFS(base, os.DirFS(folders+"modernbert-embedding")))
	dir, err := train(t, modelcard.Embedding, base, nil)
	check(t, err)
	m, err := retriever.Open(t.Context(), dir, retriever.Options{Threads: 1})
	check(t, err)
	defer m.Close()
	last := ""
	for _, change := range []string{"", filepath.Join(base, "model.safetensors"), filepath.Join(dir, hf.AdapterFile), filepath.Join(dir, hf.AdapterConfigFile), filepath.Join(base, "config.json"), filepath.Join(dir, "1_Pooling", "config.json")} {
		if change != "" {
			b, err := os.ReadFile(change)
			check(t, err)
			check(t, os.WriteFile(change, b, 0o600))
		}
		now, err := m.Fingerprint("")
		check(t, err)
		if now == last {
			t.Errorf("%s was written, and the fingerprint stays", change)
		}
		last = now
	}
}

// endsAfter is a context that ends after it has been asked so many times.
type endsAfter struct {
	context.Context
	left *int
}

func (c endsAfter) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Ctrl-C ends a merge before each tensor and before the folder is written, and leaves nothing.
func TestFolderEndsWithItsContext(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	root := t.TempDir()
	ended := 0
	for ; ; ended++ {
		left := ended
		err := merge.Folder(endsAfter{t.Context(), &left}, resolve.Resolver{}, "../encoder/testdata/lora/qwen3-reranker", filepath.Join(root, "whole"), "test")
		if err == nil {
			break
		}
		entries, readErr := os.ReadDir(root)
		if check(t, readErr); !errors.Is(err, context.Canceled) || len(entries) > 0 {
			t.Fatalf("ended when asked for the %dth time: %v, with %v in the folder", ended+1, err, entries)
		}
	}
	if ended < 10 {
		t.Errorf("the context was looked at only %d times", ended)
	}
}

// A folder of another program needs no card.
func TestFolderOfPEFT(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	out := filepath.Join(t.TempDir(), "whole")
	check(t, merge.Folder(t.Context(), resolve.Resolver{}, "../encoder/testdata/lora/qwen3-reranker", out, "test"))
	var c modelcard.Card
	b, err := os.ReadFile(filepath.Join(out, modelcard.File))
	check(t, err)
	check(t, json.Unmarshal(b, &c))
	if c.Kind != modelcard.Reranker || c.Version != "test" || c.Adapter != "" || c.BaseModel != "../../qwen3-reranker" {
		t.Errorf("%+v", c)
	}
	if d := distance(scoresOf(t, "../encoder/testdata/lora/qwen3-reranker"), scoresOf(t, out)); d > 1e-5 {
		t.Errorf("scores differ by %g", d)
	}
}
