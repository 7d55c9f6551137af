// Package encoder is the transformer that all three model kinds share: BERT as an ONNX graph over packed or padded
// tokens, read from and written to Hugging Face folders. It knows nothing of losses or retrieval.
package encoder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Config is what the encoder reads of a Hugging Face config.json.
type Config struct {
	ModelType             string  `json:"model_type"`
	VocabSize             int64   `json:"vocab_size"`
	HiddenSize            int64   `json:"hidden_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int64   `json:"num_attention_heads"`
	IntermediateSize      int64   `json:"intermediate_size"`
	HiddenAct             string  `json:"hidden_act"`
	HiddenDropout         float64 `json:"hidden_dropout_prob"`
	AttentionDropout      float64 `json:"attention_probs_dropout_prob"`
	MaxPositionEmbeddings int64   `json:"max_position_embeddings"`
	TypeVocabSize         int64   `json:"type_vocab_size"`
	LayerNormEps          float64 `json:"layer_norm_eps"`
	PadTokenID            int64   `json:"pad_token_id"`
	PositionEmbeddingType string  `json:"position_embedding_type"`
}

// Architectures are the model types that this package reads.
var Architectures = []string{"bert"}

// LoadConfig reads config.json of a model folder. Absent keys have transformers' defaults.
func LoadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	c := Config{
		HiddenAct: "gelu", HiddenDropout: 0.1, AttentionDropout: 0.1, MaxPositionEmbeddings: 512,
		TypeVocabSize: 2, LayerNormEps: 1e-12, PositionEmbeddingType: "absolute",
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("reading the model: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Validate says what in the config this package cannot do.
func (c Config) Validate() error {
	switch {
	case c.ModelType != "bert":
		return fmt.Errorf("model_type is %q, want one of: %s", c.ModelType, strings.Join(Architectures, ", "))
	case c.HiddenAct != "gelu":
		return fmt.Errorf("hidden_act is %q, want gelu", c.HiddenAct)
	case c.PositionEmbeddingType != "absolute":
		return fmt.Errorf("position_embedding_type is %q, want absolute", c.PositionEmbeddingType)
	}
	for _, k := range []struct {
		key   string
		value int64
	}{
		{"vocab_size", c.VocabSize}, {"hidden_size", c.HiddenSize}, {"num_hidden_layers", int64(c.NumHiddenLayers)},
		{"num_attention_heads", c.NumAttentionHeads}, {"intermediate_size", c.IntermediateSize},
		{"max_position_embeddings", c.MaxPositionEmbeddings}, {"type_vocab_size", c.TypeVocabSize},
	} {
		if k.value <= 0 {
			return fmt.Errorf("%s is %d, want a positive number", k.key, k.value)
		}
	}
	if c.HiddenSize%c.NumAttentionHeads != 0 {
		return fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
	}
	for _, k := range []struct {
		key  string
		rate float64
	}{{"hidden_dropout_prob", c.HiddenDropout}, {"attention_probs_dropout_prob", c.AttentionDropout}} {
		if !(k.rate >= 0 && k.rate < 1) {
			return fmt.Errorf("%s is %g, want a rate of at least 0 and below 1", k.key, k.rate)
		}
	}
	return nil
}

// HeadSize is the width of one attention head.
func (c Config) HeadSize() int64 { return c.HiddenSize / c.NumAttentionHeads }
