// Package encoder is the transformer that all three model kinds share: BERT and its relatives as an ONNX graph over
// packed or padded tokens, read from and written to Hugging Face folders. It knows nothing of losses or retrieval.
package encoder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is what the encoder reads of a Hugging Face config.json.
type Config struct {
	ModelType             string  `json:"model_type"`
	VocabSize             int64   `json:"vocab_size"`
	EmbeddingSize         int64   `json:"embedding_size"` // ELECTRA: width of the tables; otherwise hidden_size
	HiddenSize            int64   `json:"hidden_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int64   `json:"num_attention_heads"`
	IntermediateSize      int64   `json:"intermediate_size"`
	HiddenAct             string  `json:"hidden_act"`
	HiddenDropout         float64 `json:"hidden_dropout_prob"`
	AttentionDropout      float64 `json:"attention_probs_dropout_prob"`
	MaxPositionEmbeddings int64   `json:"max_position_embeddings"`
	TypeVocabSize         int64   `json:"type_vocab_size"` // 0: no token types
	LayerNormEps          float64 `json:"layer_norm_eps"`
	PadTokenID            int64   `json:"pad_token_id"`
	PositionEmbeddingType string  `json:"position_embedding_type"`
	// ClassifierDropout is that of a classification head; nil: HiddenDropout.
	ClassifierDropout *float64 `json:"classifier_dropout"`
	InitializerRange  float64  `json:"initializer_range"`
	// FusedAttention computes attention on CUDA by a kernel that never holds all probabilities. It drops none, and attends
	// to all of a row: AttentionDropout is to be 0, and no token Unseen.
	FusedAttention bool `json:"-"`
}

// family is what tells an architecture from BERT.
type family struct {
	prefix string // of the encoder's tensors inside a whole model
	// offset says that positions count from the padding token's id plus one (fairseq's way).
	offset bool
	// names translates a parameter's name to the checkpoint's; nil: the same.
	names func(string) string
	// attentionOutputDropout is false where the attention's output is added without dropout.
	attentionOutputDropout bool
}

var families = map[string]family{
	"bert":        {prefix: "bert.", attentionOutputDropout: true},
	"roberta":     {prefix: "roberta.", offset: true, attentionOutputDropout: true},
	"xlm-roberta": {prefix: "roberta.", offset: true, attentionOutputDropout: true},
	"camembert":   {prefix: "roberta.", offset: true, attentionOutputDropout: true},
	"electra":     {prefix: "electra.", attentionOutputDropout: true},
	"distilbert":  {prefix: "distilbert.", names: distilName},
}

// Architectures are the model types that this package reads.
var Architectures = []string{"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"}

func (c Config) family() family { return families[c.ModelType] }

// LoadConfig reads config.json of a model folder. Absent keys have transformers' defaults.
func LoadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the model: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseConfig(b []byte) (Config, error) {
	c := Config{
		HiddenAct: "gelu", HiddenDropout: 0.1, AttentionDropout: 0.1, MaxPositionEmbeddings: 512,
		TypeVocabSize: 2, LayerNormEps: 1e-12, PositionEmbeddingType: "absolute", InitializerRange: 0.02,
	}
	var kind struct {
		ModelType string `json:"model_type"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return c, err
	}
	var err error
	switch kind.ModelType {
	case "distilbert":
		err = c.readDistil(b)
	case "roberta", "xlm-roberta", "camembert":
		c.PadTokenID = 1
		err = json.Unmarshal(b, &c)
	default:
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, err
	}
	if c.ModelType != "electra" || c.EmbeddingSize == 0 {
		c.EmbeddingSize = c.HiddenSize
	}
	return c, c.Validate()
}

// readDistil reads DistilBERT's own keys.
func (c *Config) readDistil(b []byte) error {
	d := struct {
		VocabSize    int64   `json:"vocab_size"`
		Dim          int64   `json:"dim"`
		Layers       int     `json:"n_layers"`
		Heads        int64   `json:"n_heads"`
		Hidden       int64   `json:"hidden_dim"`
		Activation   string  `json:"activation"`
		Dropout      float64 `json:"dropout"`
		Attention    float64 `json:"attention_dropout"`
		MaxPositions int64   `json:"max_position_embeddings"`
		Classifier   float64 `json:"seq_classif_dropout"`
		PadTokenID   int64   `json:"pad_token_id"`
		Range        float64 `json:"initializer_range"`
	}{30522, 768, 6, 12, 3072, "gelu", 0.1, 0.1, 512, 0.2, 0, 0.02}
	if err := json.Unmarshal(b, &d); err != nil {
		return err
	}
	*c = Config{
		ModelType: "distilbert", VocabSize: d.VocabSize, HiddenSize: d.Dim, NumHiddenLayers: d.Layers,
		NumAttentionHeads: d.Heads, IntermediateSize: d.Hidden, HiddenAct: d.Activation, HiddenDropout: d.Dropout,
		AttentionDropout: d.Attention, MaxPositionEmbeddings: d.MaxPositions, LayerNormEps: 1e-12,
		PadTokenID: d.PadTokenID, PositionEmbeddingType: "absolute", ClassifierDropout: &d.Classifier,
		InitializerRange: d.Range,
	}
	return nil
}

// Validate says what in the config this package cannot do.
func (c Config) Validate() error {
	switch {
	case !slices.Contains(Architectures, c.ModelType):
		return fmt.Errorf("model_type is %q, want one of: %s", c.ModelType, strings.Join(Architectures, ", "))
	case c.HiddenAct != "gelu":
		return fmt.Errorf("hidden_act is %q, want gelu", c.HiddenAct)
	case c.PositionEmbeddingType != "absolute" && c.PositionEmbeddingType != "":
		return fmt.Errorf("position_embedding_type is %q, want absolute", c.PositionEmbeddingType)
	}
	for _, k := range []struct {
		key   string
		value int64
	}{
		{"vocab_size", c.VocabSize}, {"hidden_size", c.HiddenSize}, {"num_hidden_layers", int64(c.NumHiddenLayers)},
		{"num_attention_heads", c.NumAttentionHeads}, {"intermediate_size", c.IntermediateSize},
		{"embedding_size", c.EmbeddingSize}, {"max_position_embeddings", c.MaxPositionEmbeddings},
		{"the longest text", int64(c.MaxLength())},
	} {
		if k.value <= 0 {
			return fmt.Errorf("%s is %d, want a positive number", k.key, k.value)
		}
	}
	if c.TypeVocabSize < 0 || c.PadTokenID < 0 {
		return fmt.Errorf("type_vocab_size is %d and pad_token_id %d, want no negative number", c.TypeVocabSize, c.PadTokenID)
	}
	if c.HiddenSize%c.NumAttentionHeads != 0 {
		return fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
	}
	for _, k := range []struct {
		key  string
		rate float64
	}{{"hidden_dropout_prob", c.HiddenDropout}, {"attention_probs_dropout_prob", c.AttentionDropout}, {"classifier_dropout", c.HeadDropout()}} {
		if !(k.rate >= 0 && k.rate < 1) {
			return fmt.Errorf("%s is %g, want a rate of at least 0 and below 1", k.key, k.rate)
		}
	}
	return nil
}

// HeadSize is the width of one attention head.
func (c Config) HeadSize() int64 { return c.HiddenSize / c.NumAttentionHeads }

// HeadDropout is the dropout rate of a classification head.
func (c Config) HeadDropout() float64 {
	if c.ClassifierDropout != nil {
		return *c.ClassifierDropout
	}
	return c.HiddenDropout
}

// SetDropout sets every rate.
func (c *Config) SetDropout(rate float64) {
	c.HiddenDropout, c.AttentionDropout, c.ClassifierDropout = rate, rate, nil
}

// firstPosition is the index of the first token's position.
func (c Config) firstPosition() int64 {
	if c.family().offset {
		return c.PadTokenID + 1
	}
	return 0
}

// MaxLength is how many tokens the longest text can have.
func (c Config) MaxLength() int { return int(c.MaxPositionEmbeddings - c.firstPosition()) }

// HasTypes says whether texts of a pair differ in their token types; models with a single type do not take them as
// an input.
func (c Config) HasTypes() bool { return c.TypeVocabSize > 1 }

// distilName is DistilBERT's name of a tensor.
func distilName(name string) string {
	return strings.NewReplacer(
		"encoder.layer.", "transformer.layer.",
		"attention.self.query", "attention.q_lin", "attention.self.key", "attention.k_lin", "attention.self.value", "attention.v_lin",
		"attention.output.dense", "attention.out_lin", "attention.output.LayerNorm", "sa_layer_norm",
		"intermediate.dense", "ffn.lin1", "output.dense", "ffn.lin2", "output.LayerNorm", "output_layer_norm",
	).Replace(name)
}
