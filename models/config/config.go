// Package config has the configuration of a training run. Its keys are RAG-Retrieval's where that has one. The package
// holds all defaults, reads YAML files strictly, and checks every key before a run writes anything.
//
//	c := config.DefaultTrain(modelcard.Embedding)
//	notes, err := c.Read("training_embedding.yaml")
//	err = c.Validate()
package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// Train is the configuration of one training run. A field's yaml tag is its key in the file and, with dashes, its flag. The
// usage tag is the flag's help. The kinds tag lists the kinds of models that have the key; without it, all have.
type Train struct {
	Kind         modelcard.Kind `yaml:"kind" json:"kind" usage:"-"`
	Model        string         `yaml:"model_name_or_path" json:"model_name_or_path" usage:"folder or hub id (org/name) of the model to start from"`
	TrainDataset List           `yaml:"train_dataset" json:"train_dataset" usage:"file of training rows, also .gz, .parquet or org/name/file.jsonl; may be given several times"`
	Weights      Floats         `yaml:"train_dataset_weights" json:"train_dataset_weights" usage:"how often each file's examples come in an epoch, comma-separated; default: 1 for each file"`
	ValDataset   List           `yaml:"val_dataset" json:"val_dataset" usage:"file of validation rows in the same format: loss, MAP and MRR are measured, and the best model is kept"`
	OutputDir    string         `yaml:"output_dir" json:"output_dir" usage:"folder for the model, artifacts and log; must be new or empty"`

	LossType string `yaml:"loss_type" json:"loss_type" usage:"the loss, see above"`

	QueryMaxLen    int    `yaml:"query_max_len" json:"query_max_len" kinds:"embedding colbert" usage:"most tokens of a query, including special tokens; with loss_type stella, of every text"`
	PassageMaxLen  int    `yaml:"passage_max_len" json:"passage_max_len" kinds:"embedding colbert" usage:"most tokens of a passage, including special tokens"`
	MaxLen         int    `yaml:"max_len" json:"max_len" kinds:"reranker" usage:"most tokens of a pair, including special tokens; only the passage is cut"`
	QueryFormat    string `yaml:"query_format" json:"query_format" usage:"text around a query, as a Python format string with one {}, such as \"query: {}\"; a row's own prompt replaces the text before the {}; default: the model's own prompt"`
	DocumentFormat string `yaml:"document_format" json:"document_format" usage:"the same for a passage"`
	Seq            string `yaml:"seq" json:"seq" kinds:"reranker" usage:"for a decoder: text between query and passage; if seq or special_token is set, each part of a pair is tokenized by itself, as in RAG-Retrieval's llm_decoder"`
	SpecialToken   string `yaml:"special_token" json:"special_token" kinds:"reranker" usage:"for a decoder: text at the end of a pair, at which the score is read"`

	NegNums    int   `yaml:"neg_nums" json:"neg_nums" kinds:"embedding colbert" usage:"hard negatives for each query, drawn from \"neg\" again in each epoch; where a row has fewer, they are repeated"`
	GroupSize  int   `yaml:"train_group_size" json:"train_group_size" kinds:"reranker colbert" usage:"most passages of a query in a group of a group-wise loss, drawn again in each epoch"`
	ColBERTDim int64 `yaml:"colbert_dim" json:"colbert_dim" kinds:"colbert" usage:"width of a token's vector, if the model has no projection yet"`

	TrainDatasetType string  `yaml:"train_dataset_type" json:"train_dataset_type" kinds:"reranker" usage:"required format of training rows: pointwise (query, content, label) or grouped (query, hits); empty: any"`
	ValDatasetType   string  `yaml:"val_dataset_type" json:"val_dataset_type" kinds:"reranker" usage:"required format of validation rows: pointwise or grouped; empty: any"`
	TrainLabelKey    string  `yaml:"train_label_key" json:"train_label_key" kinds:"reranker" usage:"key of the label in a training row"`
	ValLabelKey      string  `yaml:"val_label_key" json:"val_label_key" kinds:"reranker" usage:"key of the label in a validation row; empty: train_label_key"`
	MinLabel         float64 `yaml:"min_label" json:"min_label" kinds:"reranker" usage:"label that counts as 0 in a point-wise loss"`
	MaxLabel         float64 `yaml:"max_label" json:"max_label" kinds:"reranker" usage:"label that counts as 1 in a point-wise loss"`

	Negatives      string `yaml:"negatives" json:"negatives" kinds:"embedding colbert" usage:"with neg_nums, the negatives of a query: all (other queries' positives and all hard negatives) or hard (only the hard negatives, as in RAG-Retrieval)"`
	AllGather      bool   `yaml:"all_gather" json:"all_gather" kinds:"embedding colbert" usage:"with several ranks, the losses infonce and contrastive compare a query with the passages of all ranks, not only with those of its own rank"`
	MaskDuplicates bool   `yaml:"mask_duplicates" json:"mask_duplicates" kinds:"embedding colbert" usage:"do not use a passage as a negative of a query if it equals the query's positive"`
	UseMRL         bool   `yaml:"use_mrl" json:"use_mrl" kinds:"embedding" usage:"Matryoshka loss: also train the first mrl_dims numbers of each vector as a vector"`
	MRLDims        Ints   `yaml:"mrl_dims" json:"mrl_dims" kinds:"embedding" usage:"vector lengths for use_mrl, comma-separated; above the model's own length, a new dense layer makes the vectors"`
	Teacher        string `yaml:"teacher_embeddings" json:"teacher_embeddings" kinds:"embedding" usage:"for loss_type stella: float32 file of the teacher's vectors, one for each row of the data"`
	TeacherDim     int    `yaml:"teacher_embedding_dim" json:"teacher_embedding_dim" kinds:"embedding" usage:"length of a teacher's vector"`

	Epochs                    int     `yaml:"epochs" json:"epochs" usage:"passes over the data"`
	MaxSteps                  int     `yaml:"max_steps" json:"max_steps" usage:"stop after this many steps; 0: after the epochs"`
	BatchSize                 int     `yaml:"batch_size" json:"batch_size" usage:"examples of a micro-batch, for each rank under mpirun; an embedding or ColBERT model takes its in-batch negatives from it"`
	GradientAccumulationSteps int     `yaml:"gradient_accumulation_steps" json:"gradient_accumulation_steps" usage:"micro-batches of a step; larger steps, but no more in-batch negatives"`
	ChunkTokens               int     `yaml:"chunk_tokens" json:"chunk_tokens" usage:"encode a batch in chunks of at most this many tokens, so that memory does not grow with batch_size (GradCache); the loss still sees the whole batch, and texts are encoded twice (pairs of a point-wise loss once); 0: the whole batch at once; -1: 2048 for a point-wise loss, for which it is faster, otherwise 0"`
	GradientCheckpointing     bool    `yaml:"gradient_checkpointing" json:"gradient_checkpointing" usage:"keep only each layer's input for the backward pass and recompute the rest: less memory, slower"`
	LR                        float64 `yaml:"lr" json:"lr" usage:"peak learning rate"`
	LRSchedule                string  `yaml:"lr_schedule" json:"lr_schedule" usage:"after the warm-up: cosine, linear or constant"`
	WarmupProportion          float64 `yaml:"warmup_proportion" json:"warmup_proportion" usage:"share of the steps for the warm-up"`
	StableProportion          float64 `yaml:"stable_proportion" json:"stable_proportion" usage:"share of the steps at the peak, between warm-up and decay"`
	WeightDecay               float64 `yaml:"weight_decay" json:"weight_decay" usage:"weight decay of AdamW; not applied to biases and LayerNorm"`
	MaxGradNorm               float64 `yaml:"max_grad_norm" json:"max_grad_norm" usage:"clip gradients to this global norm; 0: no clipping"`
	Temperature               float64 `yaml:"temperature" json:"temperature" kinds:"embedding colbert" usage:"the scores in the loss are divided by it"`
	Dropout                   float64 `yaml:"dropout" json:"dropout" usage:"rate of all dropout; -1: the model's own rates"`
	Shuffle                   bool    `yaml:"shuffle" json:"shuffle" usage:"shuffle the rows, in another order each epoch"`
	Seed                      uint64  `yaml:"seed" json:"seed" usage:"seed of shuffling, negatives, dropout and new heads"`
	ShuffleRate               float64 `yaml:"shuffle_rate" json:"shuffle_rate" kinds:"reranker" usage:"probability that a training passage of more than 100 characters is cut into three parts, which are shuffled; drawn again in each epoch"`
	SkipBadRows               bool    `yaml:"skip_bad_rows" json:"skip_bad_rows" usage:"skip and count bad rows, instead of stopping"`

	LoraRank    int     `yaml:"lora_rank" json:"lora_rank" usage:"train adapters of this rank (LoRA) instead of the encoder's own parameters, which stay frozen; the result is a PEFT folder; 0: train all parameters"`
	LoraAlpha   float64 `yaml:"lora_alpha" json:"lora_alpha" usage:"an adapter's product is multiplied by lora_alpha / lora_rank; 0: twice lora_rank"`
	LoraDropout float64 `yaml:"lora_dropout" json:"lora_dropout" usage:"rate of dropout before an adapter"`
	LoraTargets List    `yaml:"lora_targets" json:"lora_targets" usage:"linear layers with adapters, comma-separated, by transformers' names, such as q_proj,v_proj; default: all-linear, those of all the encoder's layers"`
	UseRSLora   bool    `yaml:"use_rslora" json:"use_rslora" usage:"divide lora_alpha by the square root of lora_rank, for large ranks"`
	Merge       bool    `yaml:"merge" json:"merge" usage:"with lora_rank, save the whole model with the adapters added to its weights, instead of the adapters"`
	Freeze      List    `yaml:"freeze" json:"freeze" usage:"parts of the encoder that are not trained, comma-separated: embeddings, layers:N (the first N layers)"`

	EvalSteps int `yaml:"eval_steps" json:"eval_steps" usage:"steps between validations; 0: only after the last one"`
	EarlyStop int `yaml:"early_stop" json:"early_stop" usage:"stop after this many validations without a better one; 0: never"`

	SaveSteps         int `yaml:"save_steps" json:"save_steps" usage:"steps between checkpoints; 0: only at the end and when interrupted"`
	SaveOnEpochEnd    int `yaml:"save_on_epoch_end" json:"save_on_epoch_end" usage:"1: save a checkpoint after every epoch too"`
	NumMaxCheckpoints int `yaml:"num_max_checkpoints" json:"num_max_checkpoints" usage:"how many of the newest checkpoints are kept"`
	LogInterval       int `yaml:"log_interval" json:"log_interval" usage:"steps between log lines, if no progress bar is shown"`
	Threads           int `yaml:"threads" json:"threads" usage:"threads; 0: one per core, or under mpirun the rank's share of its host's cores"`

	CheckSteps int `yaml:"check_steps" json:"check_steps" usage:"under mpirun, steps between comparisons of the ranks' parameters, which must be the same bits; 0: never"`

	ShardOptimizer bool `yaml:"shard_optimizer" json:"shard_optimizer" usage:"under mpirun, keep on each rank only its share of AdamW's two moments (ZeRO stage 1), for less memory; the result is the same"`

	Provider       string  `yaml:"provider" json:"provider" usage:"execution provider: cpu, cuda, or auto (cuda if it works, otherwise cpu)"`
	MixedPrecision string  `yaml:"mixed_precision" json:"mixed_precision" usage:"type of matrix products: no (or fp32), bf16, fp16 (on cuda, with a loss scale), or auto: bf16 on a CPU where that is faster (AMX; AVX512-BF16 of AMD), otherwise fp32; parameters, moments, LayerNorm, softmax, losses and validations stay fp32"`
	FusedAttention bool    `yaml:"fused_attention" json:"fused_attention" kinds:"embedding reranker" usage:"on cuda, with dropout 0 and not in bf16: use an attention kernel that does not store all probabilities; the backward pass recomputes them, one layer at a time"`
	TF32           bool    `yaml:"tf32" json:"tf32" usage:"on cuda, round the inputs of fp32 matrix products to 10 bits of mantissa, which is faster"`
	DeviceID       int     `yaml:"device_id" json:"device_id" usage:"on cuda, the number of the GPU; -1: under mpirun the rank's number on its host, otherwise 0"`
	GPUMemLimit    float64 `yaml:"gpu_mem_limit" json:"gpu_mem_limit" usage:"most GPU memory to use, in GB; 0: all"`

	AttentionGroups int `yaml:"attention_groups" json:"attention_groups" usage:"groups of rows of similar length; attention pads each group to its longest row"`

	Profile string `yaml:"profile" json:"profile" usage:"write ONNX Runtime's profile of the training graph to files with this prefix and, under mpirun, the rank"`
}

// Losses of each kind; the first one is the default.
var Losses = map[modelcard.Kind][]string{
	modelcard.Embedding: {"infonce", "pair_kl", "cosine", "cosent", "stella"},
	modelcard.ColBERT:   {"contrastive", "kl"},
	modelcard.Reranker:  {"pointwise_bce", "pointwise_mse", "pairwise_ranknet", "listwise_ce"},
}

// DefaultTrain returns the default configuration for a kind. The defaults are those of RAG-Retrieval's shipped files,
// except batch_size of embedding models and ColBERT, because it is the number of in-batch negatives here.
func DefaultTrain(kind modelcard.Kind) Train {
	c := Train{
		Kind: kind, QueryMaxLen: 128, PassageMaxLen: 512, MaxLen: 512, GroupSize: 10, ColBERTDim: 768, TrainLabelKey: "label",
		MaxLabel: 1, Negatives: "all", AllGather: true, MaskDuplicates: true, Epochs: 2, BatchSize: 32, GradientAccumulationSteps: 1,
		LR: 2e-5, LRSchedule: "cosine", WarmupProportion: 0.1, WeightDecay: 0.01, MaxGradNorm: 1, Temperature: 0.02,
		Dropout: -1, Shuffle: true, Seed: 666, LogInterval: 10, NumMaxCheckpoints: 2, CheckSteps: 100, AttentionGroups: 4, ChunkTokens: -1,
		Provider: runtime.CPU, DeviceID: -1, MixedPrecision: precision.Auto,
	}
	if l := Losses[kind]; l != nil {
		c.LossType = l[0]
	}
	switch kind {
	case modelcard.ColBERT:
		c.LR, c.BatchSize = 5e-6, 16
	case modelcard.Reranker:
		c.LR, c.BatchSize = 5e-5, 8
	}
	return c
}

// YAML returns the whole configuration as a YAML file.
func (c Train) YAML() ([]byte, error) {
	return yaml.MarshalWithOptions(c, yaml.CustomMarshaler[string](func(s string) ([]byte, error) {
		if s == strings.TrimSpace(s) && !strings.ContainsAny(s, "\r\n") {
			return yaml.Marshal(s)
		}
		return []byte(strconv.Quote(s)), nil // the library would write a block, which loses white space
	}))
}

// Formats returns the texts to put around queries and passages: the model's own, unless the configuration sets others.
func (c Train) Formats(own prompt.Formats) (prompt.Formats, error) {
	for _, k := range []struct {
		key, value string
		to         *prompt.Format
	}{{"query_format", c.QueryFormat, &own.Query}, {"document_format", c.DocumentFormat, &own.Document}} {
		if k.value == "" {
			continue
		}
		f, err := prompt.Parse(k.value)
		if err != nil {
			return own, fmt.Errorf("%s: %w", k.key, err)
		}
		*k.to = f
	}
	if c.Seq != "" || c.SpecialToken != "" {
		own.Seq, own.SpecialToken = c.Seq, c.SpecialToken
	}
	return own, nil
}

// Schedule returns the learning-rate schedule of a run of total steps. The warm-up is rounded up, as in transformers.
func (c Train) Schedule(total int) optim.Schedule {
	warm := int(c.WarmupProportion*float64(total) + 0.999999)
	return optim.Schedule{
		Kind: c.LRSchedule, Peak: c.LR, Warmup: min(warm, total), Stable: int(c.StableProportion * float64(total)), Total: total,
	}
}

// AdamW returns the optimizer's settings.
func (c Train) AdamW() optim.AdamW {
	a := optim.DefaultAdamW
	a.WeightDecay = c.WeightDecay
	return a
}

// Half returns the 16-bit type of the graph's matrix products, or zero for float32. On a CPU, bf16 is not in the graph: the session
// computes its products so.
func (c Train) Half() onnx.DType {
	if c.MixedPrecision == precision.BF16 && c.Provider == runtime.CPU {
		return 0
	}
	return map[string]onnx.DType{precision.FP16: onnx.Float16, precision.BF16: onnx.BFloat16}[c.MixedPrecision]
}

// CheckFused returns an error if fused_attention is set and attention has dropout, which the kernel does not support.
func (c Train) CheckFused(dropout float64) error {
	if c.FusedAttention && dropout > 0 {
		return fmt.Errorf("fused_attention: the kernel has no dropout, but the model's attention has a dropout of %g: set dropout to 0", dropout)
	}
	return nil
}

// SessionOptions returns the options of the sessions of a process that is the only one of its run: provider, GPU, threads and
// limits.
func (c Train) SessionOptions() runtime.Options {
	return runtime.Options{
		Provider: c.Provider, DeviceID: max(0, c.DeviceID), Threads: c.Threads, TF32: c.TF32, MemoryLimit: int64(c.GPUMemLimit * 1e9),
	}
}

// Resolve replaces provider "auto" by the one that works, where device is the number of the GPU to use. If it is the CPU, it also
// resets settings that only CUDA has. The notes say, for the user, which settings have no effect and why. It leaves mixed_precision
// auto and bf16, which depend on the other ranks too.
func (c *Train) Resolve(device int) (notes []string, err error) {
	use, reason, err := runtime.Resolve(c.Provider, device)
	if err != nil {
		return nil, err
	}
	if reason != nil {
		notes = append(notes, fmt.Sprintf("provider: the CPU is used: %v", reason))
	}
	c.Provider = use
	c.MixedPrecision = precision.Normal(c.MixedPrecision)
	if len(c.MRLDims) > 0 && !c.UseMRL {
		notes = append(notes, "mrl_dims: without use_mrl they have no effect")
	}
	if use == runtime.CPU && c.FusedAttention {
		notes = append(notes, "fused_attention: the kernel is only for cuda")
		c.FusedAttention = false
	}
	if use == runtime.CPU && c.MixedPrecision == precision.FP16 {
		notes = append(notes, "mixed_precision: a CPU trains in fp32 or bf16; fp16 is for cuda, so it is fp32 here")
		c.MixedPrecision = precision.No
	}
	return notes, nil
}

// pointwiseChunk is the default of chunk_tokens for a point-wise loss. With it, a reranker's step of 32 pairs of at most
// 256 tokens took an eighth less time and half the memory on 2 cores.
const pointwiseChunk = 2048

// OneChunk is a number of tokens per chunk that no batch has.
const OneChunk = math.MaxInt32

// Contrastive reports whether the loss compares each query with the passages of other queries: with negatives "hard" too, with
// their hard negatives.
func (c Train) Contrastive() bool { return c.LossType == "infonce" || c.LossType == "contrastive" }

// ComparesExamples reports whether the loss of an example depends on the other examples of its batch.
func (c Train) ComparesExamples() bool {
	return c.Contrastive() || slices.Contains([]string{"pair_kl", "cosent", "stella"}, c.LossType)
}

// Gathers reports whether the loss compares each query with the passages of all of so many ranks.
func (c Train) Gathers(ranks int) bool { return ranks > 1 && c.AllGather && c.Contrastive() }

// TokensPerChunk returns how many tokens are encoded at once. 0 means that one graph encodes the whole batch and compares its
// texts. It cannot gather vectors of other ranks in between: with gather, the whole batch is OneChunk.
func (c Train) TokensPerChunk(gather bool) int {
	switch {
	case c.ChunkTokens > 0:
		return c.ChunkTokens
	case c.ChunkTokens < 0 && strings.HasPrefix(c.LossType, "pointwise_"):
		return pointwiseChunk
	case gather:
		return OneChunk
	}
	return 0
}

// Steps returns the number of steps of the run.
func (c Train) Steps(perEpoch int) int {
	if c.MaxSteps > 0 {
		return c.MaxSteps
	}
	return c.Epochs * perEpoch
}
