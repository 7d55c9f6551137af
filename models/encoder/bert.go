package encoder

import (
	"encoding/json"
	"strings"
)

// BERT and the models that share its blocks: post-norm, learned positions, GELU, biases everywhere.
// Source: Devlin et al. 2018; RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA as transformers computes them.
var (
	bert    = architecture{read: readBert, prefix: "bert.", names: bertNames, sources: bertSources}
	roberta = architecture{read: readRoberta, prefix: "roberta.", offset: true, names: bertNames, sources: bertSources}
	electra = architecture{read: readElectra, prefix: "electra.", names: bertNames, sources: bertSources}
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

// bertSources says that a checkpoint has queries, keys and values apart.
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

func readBert(b []byte, c *Config) error {
	*c = Config{
		HiddenAct: "gelu", HiddenDropout: 0.1, AttentionDropout: 0.1, MaxPositionEmbeddings: 512,
		TypeVocabSize: 2, LayerNormEps: 1e-12, PositionEmbeddingType: "absolute", InitializerRange: 0.02,
	}
	if err := json.Unmarshal(b, c); err != nil {
		return err
	}
	c.EmbeddingSize = c.HiddenSize
	c.Blocks = bertBlocks()
	return nil
}

func bertBlocks() Blocks {
	return Blocks{
		EmbeddingNorm: true, NormBias: true, AttentionBias: true, FeedForwardBias: true, AttentionOutputDropout: true, OutputDropout: true,
	}
}

func readRoberta(b []byte, c *Config) error {
	if err := readBert(b, c); err != nil {
		return err
	}
	var x struct {
		PadTokenID *int64 `json:"pad_token_id"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if c.PadTokenID = 1; x.PadTokenID != nil {
		c.PadTokenID = *x.PadTokenID
	}
	return nil
}

// readElectra keeps the width of the tables, which a projection widens to the hidden size.
func readElectra(b []byte, c *Config) error {
	if err := readBert(b, c); err != nil {
		return err
	}
	var x struct {
		EmbeddingSize int64 `json:"embedding_size"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	if x.EmbeddingSize != 0 {
		c.EmbeddingSize = x.EmbeddingSize
	}
	return nil
}
