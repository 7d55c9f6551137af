// Package config is the configuration of a training run: RAG-Retrieval's keys where it has one, their defaults in one
// place, strict reading, and every key checked before anything is written.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"rag-retrieval-go/ortrain/optim"
)

// Train is the configuration of one training run. A field's yaml tag is its key in the file and, with dashes, its
// flag; its usage tag is the flag's help.
type Train struct {
	Model        string `yaml:"model_name_or_path" json:"model_name_or_path" usage:"folder of the model to start from"`
	TrainDataset string `yaml:"train_dataset" json:"train_dataset" usage:"training rows: {\"query\", \"pos\"[, \"neg\"]} a line"`
	OutputDir    string `yaml:"output_dir" json:"output_dir" usage:"folder for the model, artifacts and log; must be new or empty"`

	QueryMaxLen   int `yaml:"query_max_len" json:"query_max_len" usage:"tokens of a query, special ones included"`
	PassageMaxLen int `yaml:"passage_max_len" json:"passage_max_len" usage:"tokens of a passage, special ones included"`
	NegNums       int `yaml:"neg_nums" json:"neg_nums" usage:"hard negatives per query, drawn anew each epoch from \"neg\""`

	Epochs                    int     `yaml:"epochs" json:"epochs" usage:"passes over the data"`
	MaxSteps                  int     `yaml:"max_steps" json:"max_steps" usage:"stop after this many steps; 0: after the epochs"`
	BatchSize                 int     `yaml:"batch_size" json:"batch_size" usage:"queries of a micro-batch; the in-batch negatives come from it"`
	GradientAccumulationSteps int     `yaml:"gradient_accumulation_steps" json:"gradient_accumulation_steps" usage:"micro-batches of a step; it adds no in-batch negatives: those come from the own micro-batch"`
	LR                        float64 `yaml:"lr" json:"lr" usage:"peak learning rate"`
	LRSchedule                string  `yaml:"lr_schedule" json:"lr_schedule" usage:"after the warm-up: cosine, linear or constant"`
	WarmupProportion          float64 `yaml:"warmup_proportion" json:"warmup_proportion" usage:"share of the steps that warm up"`
	WeightDecay               float64 `yaml:"weight_decay" json:"weight_decay" usage:"of AdamW; none on biases and LayerNorm"`
	MaxGradNorm               float64 `yaml:"max_grad_norm" json:"max_grad_norm" usage:"clip gradients to this global norm; 0: no clipping"`
	Temperature               float64 `yaml:"temperature" json:"temperature" usage:"divides the cosines in the loss"`
	Dropout                   float64 `yaml:"dropout" json:"dropout" usage:"rate of all dropout; -1: the model's own rates"`
	Shuffle                   bool    `yaml:"shuffle" json:"shuffle" usage:"shuffle the rows, anew each epoch"`
	Seed                      uint64  `yaml:"seed" json:"seed" usage:"of shuffling, negatives and dropout"`

	SaveSteps       int `yaml:"save_steps" json:"save_steps" usage:"steps between checkpoints; 0: only at the end and when interrupted"`
	LogInterval     int `yaml:"log_interval" json:"log_interval" usage:"steps between log lines where no progress bar is shown"`
	Threads         int `yaml:"threads" json:"threads" usage:"threads; 0: one per core"`
	AttentionGroups int `yaml:"attention_groups" json:"attention_groups" usage:"groups of rows of like length that attention pads separately"`

	Profile string `yaml:"profile" json:"profile" usage:"write ONNX Runtime's profile of the training graph to files of this prefix"`
}

// DefaultTrain has RAG-Retrieval's defaults, but for the batch: it is the number of in-batch negatives here.
var DefaultTrain = Train{
	QueryMaxLen: 128, PassageMaxLen: 512, Epochs: 2, BatchSize: 32, GradientAccumulationSteps: 1, LR: 2e-5,
	LRSchedule: "cosine", WarmupProportion: 0.1, WeightDecay: 0.01, MaxGradNorm: 1, Temperature: 0.02, Dropout: -1,
	Shuffle: true, Seed: 666, LogInterval: 10, AttentionGroups: 4,
}

// Read reads a YAML file over c. Keys that Train does not have are errors that name file and line.
func (c *Train) Read(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(c); err != nil && !errors.Is(err, io.EOF) {
		first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return fmt.Errorf("%s: %s", path, first)
	}
	return nil
}

// YAML is the whole configuration as a file.
func (c Train) YAML() ([]byte, error) { return yaml.Marshal(c) }

// Validate checks what can be checked without opening anything.
func (c Train) Validate() error {
	for _, k := range []struct{ key, value string }{
		{"model_name_or_path", c.Model}, {"train_dataset", c.TrainDataset}, {"output_dir", c.OutputDir},
	} {
		if k.value == "" {
			return fmt.Errorf("%s is missing", k.key)
		}
	}
	for _, k := range []struct {
		key        string
		value, low int
	}{
		{"neg_nums", c.NegNums, 0}, {"epochs", c.Epochs, 1}, {"max_steps", c.MaxSteps, 0},
		{"batch_size", c.BatchSize, 1}, {"gradient_accumulation_steps", c.GradientAccumulationSteps, 1},
		{"save_steps", c.SaveSteps, 0}, {"log_interval", c.LogInterval, 1}, {"threads", c.Threads, 0},
		{"attention_groups", c.AttentionGroups, 1},
	} {
		if k.value < k.low {
			return fmt.Errorf("%s is %d, want at least %d", k.key, k.value, k.low)
		}
	}
	if c.BatchSize == 1 && c.NegNums == 0 {
		return fmt.Errorf("batch_size is 1 without hard negatives: the loss would have nothing to tell apart")
	}
	for _, k := range []struct {
		key   string
		value float64
		ok    bool
		want  string
	}{
		{"lr", c.LR, c.LR > 0 && c.LR < 1, "above 0 and below 1"},
		{"warmup_proportion", c.WarmupProportion, c.WarmupProportion >= 0 && c.WarmupProportion <= 1, "0 to 1"},
		{"weight_decay", c.WeightDecay, c.WeightDecay >= 0 && c.WeightDecay < 1, "at least 0 and below 1"},
		{"max_grad_norm", c.MaxGradNorm, c.MaxGradNorm >= 0, "at least 0"},
		{"temperature", c.Temperature, c.Temperature > 0, "above 0"},
		{"dropout", c.Dropout, c.Dropout == -1 || c.Dropout >= 0 && c.Dropout < 1, "-1, or at least 0 and below 1"},
	} {
		if !k.ok {
			return fmt.Errorf("%s is %g, want %s", k.key, k.value, k.want)
		}
	}
	return c.Schedule(1).Validate()
}

// Schedule is the learning rate over a run of that many steps. The warm-up is rounded up, as transformers does.
func (c Train) Schedule(total int) optim.Schedule {
	warm := int(c.WarmupProportion*float64(total) + 0.999999)
	return optim.Schedule{Kind: c.LRSchedule, Peak: c.LR, Warmup: min(warm, total), Total: total}
}

// AdamW are the optimizer's settings.
func (c Train) AdamW() optim.AdamW {
	a := optim.DefaultAdamW
	a.WeightDecay = c.WeightDecay
	return a
}

// Steps is the length of the run.
func (c Train) Steps(perEpoch int) int {
	if c.MaxSteps > 0 {
		return c.MaxSteps
	}
	return c.Epochs * perEpoch
}
