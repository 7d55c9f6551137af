package config

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
)

// valid is a default configuration of a kind with the keys set that have no default.
func valid(kind modelcard.Kind) Train {
	c := DefaultTrain(kind)
	c.Model, c.TrainDataset, c.OutputDir = "m", List{"a.jsonl", "b.jsonl"}, "out"
	return c
}

// The defaults are valid with every loss; each wrong value is named with its key.
func TestValidate(t *testing.T) {
	for kind, losses := range Losses {
		for _, loss := range losses {
			c := valid(kind)
			if c.LossType = loss; loss == "stella" {
				c.Teacher = "t"
			}
			if err := c.Validate(); err != nil {
				t.Errorf("%s, %s: %v", kind, loss, err)
			}
		}
	}
	for want, set := range map[string]func(c *Train){
		`kind is missing`:                 func(c *Train) { c.Kind = "" },
		`kind is "llm", want one of`:      func(c *Train) { c.Kind = "llm" },
		`model_name_or_path is missing`:   func(c *Train) { c.Model = "" },
		`train_dataset is missing`:        func(c *Train) { c.TrainDataset = nil },
		`epochs is 0, want at least 1`:    func(c *Train) { c.Epochs = 0 },
		`lr is NaN, want above 0`:         func(c *Train) { c.LR = math.NaN() },
		`loss_type is "infonce", want`:    func(c *Train) { c.LossType = "infonce" },
		`attention_groups is 1e+06, want`: func(c *Train) { c.AttentionGroups = 1_000_000 },
		`batch_size is 1e+12, want at mo`: func(c *Train) { c.BatchSize = 1_000_000_000_000 },
		`max_label is 0, want more than`:  func(c *Train) { c.MaxLabel = 0 },
		`shuffle_rate is 1.5, want 0 to`:  func(c *Train) { c.ShuffleRate = 1.5 },
		`shuffle_rate is NaN, want 0 to`:  func(c *Train) { c.ShuffleRate = math.NaN() },
		`temperature is +Inf, want a fin`: func(c *Train) { c.Temperature = math.Inf(1) },
		`min_label is -Inf, want a finit`: func(c *Train) { c.MinLabel = math.Inf(-1) },
		`min_label is NaN, want a number`: func(c *Train) { c.MinLabel = math.NaN() },
		`save_on_epoch_end is 2, want 0`:  func(c *Train) { c.SaveOnEpochEnd = 2 },
		`mixed_precision is "fp8", want`:  func(c *Train) { c.MixedPrecision = "fp8" },
		`train_group_size is 1, want at`:  func(c *Train) { c.GroupSize = 1 },
		`train_dataset_type is "triplet"`: func(c *Train) { c.TrainDatasetType = "triplet" },
		`val_dataset_type is "triplet"`:   func(c *Train) { c.ValDatasetType = "triplet" },
		`loss_type listwise_ce needs all`: func(c *Train) { c.LossType, c.TrainDatasetType = "listwise_ce", Pointwise },
		`has 1 numbers for 2 files`:       func(c *Train) { c.Weights = Floats{1} },
		`train_dataset_weights has 0`:     func(c *Train) { c.Weights = Floats{1, 0} },
		`has 2000, want above 0 and at`:   func(c *Train) { c.Weights = Floats{1, 2000} },
		`eval_steps and early_stop need`:  func(c *Train) { c.EvalSteps = 1 },
		`use_mrl needs mrl_dims`:          func(c *Train) { c.UseMRL = true },
		`teacher_embeddings and loss_typ`: func(c *Train) { c.Teacher = "t" },
	} {
		c := valid(modelcard.Reranker)
		set(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A key of RAG-Retrieval is translated into another key, or ignored with a reason. An unsupported value is an error that
// names it.
func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		name, value string
		to          Setting
		refused     string
	}{
		{"dataset", "a", Setting{"train_dataset", "a"}, ""}, {"train_type", "distill", Setting{"loss_type", "stella"}, ""},
		{"train_type", "train", Setting{}, ""}, {"num_labels", "1", Setting{}, ""},
		{"num_labels", "2", Setting{}, "num_labels is \"2\", want 1"}, {"model_type", "gpt", Setting{}, "want bert_encoder or llm_decoder"},
		{"model_type", "bert_encoder", Setting{}, ""}, {"train_type", "x", Setting{}, "want train or distill"},
	} {
		to, why, ok, err := Translate(c.name, c.value)
		if !ok || to != c.to || (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s %s: %v, %q, %v, %v", c.name, c.value, to, why, ok, err)
		}
		if (why == "") != (to.Key != "" || err != nil) {
			t.Errorf("%s %s: the reason is %q", c.name, c.value, why)
		}
	}
	if _, _, ok, _ := Translate("lr", "1"); ok {
		t.Error("lr is a key of this program")
	}
	own := ownKeys()
	for name, f := range originalKeys {
		if own[name] != nil || f.key != "" && own[f.key] == nil {
			t.Errorf("%s: it is a key itself, or %q is none", name, f.key)
		}
	}
}

// A list is a single value, values with commas between them, or a YAML list.
func TestLists(t *testing.T) {
	for text, want := range map[string]Train{
		"train_dataset: a, b\nmrl_dims: 8\n":           {TrainDataset: List{"a, b"}, MRLDims: Ints{8}},
		"train_dataset: [a, b]\nmrl_dims: [8, 9]\n":    {TrainDataset: List{"a", "b"}, MRLDims: Ints{8, 9}},
		"train_dataset_weights: \"1, 0.5\"\n":          {Weights: Floats{1, 0.5}},
		"train_dataset: []\ntrain_dataset_weights: []": {},
	} {
		c, _, _, err := read(t, modelcard.Embedding, text)
		if err != nil || !reflect.DeepEqual(c.TrainDataset, want.TrainDataset) || !reflect.DeepEqual(c.MRLDims, want.MRLDims) || !reflect.DeepEqual(c.Weights, want.Weights) {
			t.Errorf("%q: %v %v %v, %v", text, c.TrainDataset, c.MRLDims, c.Weights, err)
		}
	}
}
