package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain/runtime"
)

// maxWeight is the largest weight of a file.
const maxWeight = 1000

// The values of train_dataset_type and val_dataset_type.
const (
	Pointwise = "pointwise"
	Grouped   = "grouped"
)

var datasetTypes = []string{"", Pointwise, Grouped}

// Validate checks what can be checked without opening anything.
func (c Train) Validate() error {
	for _, k := range []struct{ key, value string }{
		{"kind", string(c.Kind)}, {"model_name_or_path", c.Model}, {"train_dataset", c.TrainDataset.String()},
		{"output_dir", c.OutputDir},
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
		{"save_steps", c.SaveSteps, 0}, {"eval_steps", c.EvalSteps, 0}, {"check_steps", c.CheckSteps, 0}, {"early_stop", c.EarlyStop, 0},
		{"num_max_checkpoints", c.NumMaxCheckpoints, 1}, {"log_interval", c.LogInterval, 1}, {"chunk_tokens", c.ChunkTokens, -1}, {"threads", c.Threads, 0}, {"device_id", c.DeviceID, -1},
		{"attention_groups", c.AttentionGroups, 1}, {"lora_rank", c.LoraRank, 0}, {"train_group_size", c.GroupSize, 2}, {"colbert_dim", int(c.ColBERTDim), 1},
	} {
		if k.value < k.low {
			return fmt.Errorf("%s is %d, want at least %d", k.key, k.value, k.low)
		}
	}
	if err := c.validateChoices(); err != nil {
		return err
	}
	for _, k := range []struct {
		key   string
		value float64
		ok    bool
		want  string
	}{
		{"lr", c.LR, c.LR > 0 && c.LR < 1, "above 0 and below 1"},
		{"warmup_proportion", c.WarmupProportion, c.WarmupProportion >= 0 && c.WarmupProportion <= 1, "0 to 1"},
		{"stable_proportion", c.StableProportion, c.StableProportion >= 0 && c.WarmupProportion+c.StableProportion <= 1, "0 to 1 - warmup_proportion"},
		{"attention_groups", float64(c.AttentionGroups), c.AttentionGroups <= 64, "at most 64"},
		{"batch_size", float64(c.BatchSize), c.BatchSize <= 1<<20, "at most 1048576"},
		{"min_label", c.MinLabel, !math.IsNaN(c.MinLabel), "a number"},
		{"max_label", c.MaxLabel, c.MaxLabel > c.MinLabel, "more than min_label"},
		{"weight_decay", c.WeightDecay, c.WeightDecay >= 0 && c.WeightDecay < 1, "at least 0 and below 1"},
		{"max_grad_norm", c.MaxGradNorm, c.MaxGradNorm >= 0, "at least 0"},
		{"temperature", c.Temperature, c.Temperature > 0, "above 0"},
		{"gpu_mem_limit", c.GPUMemLimit, c.GPUMemLimit >= 0, "at least 0"},
		{"shuffle_rate", c.ShuffleRate, c.ShuffleRate >= 0 && c.ShuffleRate <= 1, "0 to 1"},
		{"save_on_epoch_end", float64(c.SaveOnEpochEnd), c.SaveOnEpochEnd == 0 || c.SaveOnEpochEnd == 1, "0 or 1"},
		{"lora_rank", float64(c.LoraRank), c.LoraRank <= 1024, "at most 1024"},
		{"lora_alpha", c.LoraAlpha, c.LoraAlpha >= 0, "at least 0"},
		{"lora_dropout", c.LoraDropout, c.LoraDropout >= 0 && c.LoraDropout < 1, "at least 0 and below 1"},
		{"dropout", c.Dropout, c.Dropout == -1 || c.Dropout >= 0 && c.Dropout < 1, "-1, or at least 0 and below 1"},
	} {
		if !k.ok {
			return fmt.Errorf("%s is %g, want %s", k.key, k.value, k.want)
		}
		if math.IsInf(k.value, 0) { // JSON, in a checkpoint, has no infinity
			return fmt.Errorf("%s is %g, want a finite number", k.key, k.value)
		}
	}
	return c.Schedule(1).Validate()
}

// validateChoices checks the keys that have a few possible values.
func (c Train) validateChoices() error {
	losses, ok := Losses[c.Kind]
	if !ok {
		return fmt.Errorf("kind is %q, want one of %v", c.Kind, modelcard.Kinds)
	}
	for _, k := range []struct {
		key, value string
		of         []string
	}{{"loss_type", c.LossType, losses}, {"negatives", c.Negatives, []string{"all", "hard"}},
		{"train_dataset_type", c.TrainDatasetType, datasetTypes}, {"val_dataset_type", c.ValDatasetType, datasetTypes},
		{"provider", c.Provider, runtime.Providers}, {"mixed_precision", c.MixedPrecision, precision.Training}} {
		if !slices.Contains(k.of, k.value) {
			return fmt.Errorf("%s is %q, want one of %s", k.key, k.value, strings.Join(k.of, ", "))
		}
	}
	if _, err := c.Formats(prompt.Formats{}); err != nil {
		return err
	}
	if c.Weights != nil && len(c.Weights) != len(c.TrainDataset) {
		return fmt.Errorf("train_dataset_weights has %d numbers for %d files", len(c.Weights), len(c.TrainDataset))
	}
	for _, w := range c.Weights {
		if !(w > 0) || w > maxWeight {
			return fmt.Errorf("train_dataset_weights has %g, want above 0 and at most %d", w, maxWeight)
		}
	}
	if len(c.ValDataset) == 0 && (c.EvalSteps > 0 || c.EarlyStop > 0) {
		return fmt.Errorf("eval_steps and early_stop need a val_dataset")
	}
	if c.UseMRL && len(c.MRLDims) == 0 {
		return fmt.Errorf("use_mrl needs mrl_dims")
	}
	if (c.LossType == "stella") != (c.Teacher != "") {
		return fmt.Errorf("teacher_embeddings and loss_type stella go together")
	}
	if c.TrainDatasetType == Pointwise && !strings.HasPrefix(c.LossType, "pointwise_") {
		return fmt.Errorf("loss_type %s needs all passages of a query in a row, but train_dataset_type is pointwise: want grouped", c.LossType)
	}
	if c.FusedAttention && c.MixedPrecision == precision.BF16 && c.Provider != runtime.CPU {
		return fmt.Errorf("fused_attention: the kernel has no bf16; mixed_precision may be no or fp16")
	}
	if err := c.validateTrained(); err != nil {
		return err
	}
	if c.Negatives == "hard" && c.NegNums == 0 && c.Contrastive() {
		return fmt.Errorf("negatives is hard, but neg_nums is 0: the loss would have no negatives")
	}
	return nil
}
