package encoder

import (
	"fmt"
	"strings"
)

// BERT and the models that share its blocks: post-norm, learned positions, GELU, biases everywhere.
// Source: Devlin et al. 2018; RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA as transformers computes them.
var (
	bert    = architecture{read: readBert, names: bertNames, prefix: "bert.", spellings: []spelling{bertSources}, ignores: bertIgnores}
	roberta = architecture{read: readRoberta, offset: true, names: bertNames, prefix: "roberta.", spellings: []spelling{bertSources}, ignores: bertIgnores}
	electra = architecture{read: readElectra, names: bertNames, prefix: "electra.", spellings: []spelling{bertSources}, ignores: map[string]string{
		"summary_activation": "for transformers' summaries only", "summary_last_dropout": "for transformers' summaries only", "summary_type": "for transformers' summaries only",
		"summary_use_proj": "for transformers' summaries only",
	}}
)

func bertNames() names {
	const layer = "encoder.layer.%d."
	return names{
		words: "embeddings.word_embeddings.weight", positions: "embeddings.position_embeddings.weight",
		types: "embeddings.token_type_embeddings.weight", embeddingNorm: "embeddings.LayerNorm",
		layer: layerNames{
			queryKeyValue: layer + "attention.self.qkv", attentionOutput: layer + "attention.output.dense",
			attentionNorm: layer + "attention.output.LayerNorm", up: layer + "intermediate.dense", down: layer + "output.dense",
			feedForwardNorm: layer + "output.LayerNorm",
		},
	}
}

// bertSources: a checkpoint has separate tensors for queries, keys and values.
func bertSources(param string) []string {
	before, after, fused := strings.Cut(param, ".self.qkv.")
	if !fused {
		return []string{param}
	}
	var out []string
	for _, part := range []string{"query", "key", "value"} {
		out = append(out, before+".self."+part+"."+after)
	}
	return out
}

// bertConfig has the keys of config.json.
type bertConfig struct {
	VocabSize             int64    `json:"vocab_size"`
	HiddenSize            int64    `json:"hidden_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int64    `json:"num_attention_heads"`
	IntermediateSize      int64    `json:"intermediate_size"`
	HiddenAct             string   `json:"hidden_act"`
	HiddenDropout         float64  `json:"hidden_dropout_prob"`
	AttentionDropout      float64  `json:"attention_probs_dropout_prob"`
	MaxPositionEmbeddings int64    `json:"max_position_embeddings"`
	TypeVocabSize         int64    `json:"type_vocab_size"`
	LayerNormEps          float64  `json:"layer_norm_eps"`
	PadTokenID            int64    `json:"pad_token_id"`
	PositionEmbeddingType string   `json:"position_embedding_type"`
	ClassifierDropout     *float64 `json:"classifier_dropout"`
	InitializerRange      float64  `json:"initializer_range"`
	IsDecoder             bool     `json:"is_decoder"`
}

func readBert(k *Keys, c *Config) error {
	x := bertConfig{
		HiddenAct: "gelu", HiddenDropout: 0.1, AttentionDropout: 0.1, MaxPositionEmbeddings: 512,
		TypeVocabSize: 2, LayerNormEps: 1e-12, PositionEmbeddingType: "absolute", InitializerRange: 0.02,
	}
	if err := k.Read(&x); err != nil {
		return err
	}
	if x.IsDecoder {
		return fmt.Errorf("is_decoder is true: want false, since causal attention is not computed for this architecture")
	}
	*c = x.config(bertBlocks())
	return nil
}

// config has what the keys say.
func (x bertConfig) config(blocks Blocks) Config {
	return Config{
		VocabSize: x.VocabSize, EmbeddingSize: x.HiddenSize, HiddenSize: x.HiddenSize, NumHiddenLayers: x.NumHiddenLayers,
		NumAttentionHeads: x.NumAttentionHeads, IntermediateSize: x.IntermediateSize, HiddenAct: x.HiddenAct, HiddenDropout: x.HiddenDropout,
		AttentionDropout: x.AttentionDropout, MaxPositionEmbeddings: x.MaxPositionEmbeddings, TypeVocabSize: x.TypeVocabSize,
		LayerNormEps: x.LayerNormEps, PadTokenID: x.PadTokenID, PositionEmbeddingType: x.PositionEmbeddingType,
		ClassifierDropout: x.ClassifierDropout, InitializerRange: x.InitializerRange, Blocks: blocks,
	}
}

// bertIgnores are keys of BERT's first code, which wrote Chinese models.
var bertIgnores = map[string]string{
	"directionality": "for the first BERT's code only", "pooler_fc_size": "for the first BERT's code only", "pooler_num_attention_heads": "for the first BERT's code only",
	"pooler_num_fc_layers": "for the first BERT's code only", "pooler_size_per_head": "for the first BERT's code only", "pooler_type": "for the first BERT's code only",
	"output_past": "for generating text only",
}

func bertBlocks() Blocks {
	return Blocks{
		EmbeddingNorm: true, NormBias: true, QueryKeyValueBias: true, AttentionOutputBias: true, UpBias: true, DownBias: true,
		AttentionOutputDropout: true, OutputDropout: true,
	}
}

func readRoberta(k *Keys, c *Config) error {
	if err := readBert(k, c); err != nil {
		return err
	}
	var x struct {
		PadTokenID *int64 `json:"pad_token_id"`
	}
	if err := k.Read(&x); err != nil {
		return err
	}
	if c.PadTokenID = 1; x.PadTokenID != nil {
		c.PadTokenID = *x.PadTokenID
	}
	return nil
}

// readElectra keeps the width of the tables, which a projection widens to the hidden size.
func readElectra(k *Keys, c *Config) error {
	if err := readBert(k, c); err != nil {
		return err
	}
	var x struct {
		EmbeddingSize int64 `json:"embedding_size"`
	}
	if err := k.Read(&x); err != nil {
		return err
	}
	if x.EmbeddingSize != 0 {
		c.EmbeddingSize = x.EmbeddingSize
	}
	return nil
}
