package encoder

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is what the encoder takes from a Hugging Face config.json: each architecture's file says from which keys.
type Config struct {
	ModelType             string
	Prefix                string // stands before the names of the encoder's tensors in the checkpoint of a whole model
	VocabSize             int64
	EmbeddingSize         int64 // ELECTRA: width of the tables; otherwise hidden_size
	HiddenSize            int64
	NumHiddenLayers       int
	NumAttentionHeads     int64
	IntermediateSize      int64
	HiddenAct             string
	HiddenDropout         float64
	AttentionDropout      float64
	ActivationDropout     float64 // of the feed-forward's activation
	MaxPositionEmbeddings int64
	TypeVocabSize         int64 // 0: no token types
	LayerNormEps          float64
	PadTokenID            int64
	PositionEmbeddingType string
	// ClassifierDropout is the dropout rate of a classification head; nil means HiddenDropout.
	ClassifierDropout *float64
	InitializerRange  float64
	// Keys are the file's entries; nil in a Config that was not loaded.
	Keys   *Keys
	Blocks Blocks
	// FusedAttention computes attention on CUDA by a kernel that never holds all probabilities. The kernel has no dropout and
	// no mask: AttentionDropout must be 0, and no row may have Unattended tokens. Set it by SetFusedAttention.
	FusedAttention bool
	// LoRA has the adapters that are trained in place of the encoder's own parameters; nil: none. Set it by SetLoRA.
	LoRA *LoRA
	// Freeze says which parameters are not trained.
	Freeze Freeze
	// WindowBlock is how many queries a block has where long texts are cut for layers with a window; 0: chosen by the window.
	WindowBlock int
}

// Freeze names parts of an encoder that are not trained.
type Freeze struct {
	Embeddings bool // the tables and what follows before the first layer
	Layers     int  // the first so many layers
}

// Blocks say which blocks the layers are made of. Each architecture's file fills it.
type Blocks struct {
	// PreNorm puts norms before attention and feed-forward, and one behind the last layer. Otherwise norms follow the residual
	// sums (post-norm).
	PreNorm bool
	// BranchNorm puts a norm behind attention and behind the feed-forward, before they are added to the residual stream.
	BranchNorm bool
	// NoFirstNorm leaves out the norm before the first layer's attention, where the embeddings have a norm of their own.
	NoFirstNorm   bool
	EmbeddingNorm bool // a norm and dropout behind the embeddings
	RMSNorm       bool // norms are RMSNorm instead of LayerNorm
	NormPlusOne   bool // RMSNorm multiplies by 1 + weight
	NormBias      bool // of LayerNorm
	// KeyValueHeads is the number of key-value heads, fewer than the query heads where several of these share keys and values
	// (grouped-query attention); 0 means as many.
	KeyValueHeads int64
	// HeadWidth is the width of a head; 0 means the hidden size divided by the number of heads.
	HeadWidth int64
	// ScoreWidth is n in attention's scores q·k/√n; 0 means the width of a head.
	ScoreWidth float64
	// EmbeddingScale multiplies the word embeddings; 0 means 1.
	EmbeddingScale float64
	// QueryKeyNorm normalizes each head's queries and keys before they are rotated.
	QueryKeyNorm bool
	// QueryKeyValueBias and AttentionOutputBias say which of attention's linear layers have a bias.
	QueryKeyValueBias, AttentionOutputBias bool
	// Rotary has each layer's rotary position embedding; nil: positions are learned.
	Rotary []Rotation
	// Windows says for each layer how many tokens to either side a token attends to; NoWindow means all of its text. Nil means
	// NoWindow for all layers.
	Windows []int64
	// Causal lets a token attend to itself and to the tokens before it only.
	Causal bool
	// Gated makes the feed-forward block gated (GeGLU, SwiGLU): see feedForward. The gate is the first half of the layer up, or
	// the second half if GateLast is set.
	Gated, GateLast bool
	// UpBias and DownBias say which of the feed-forward's linear layers have a bias.
	UpBias, DownBias bool
	// Where dropout is applied besides the attention probabilities: to attention's output, to the activation, and to the layer's
	// output.
	AttentionOutputDropout, ActivationDropout, OutputDropout bool
}

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
	var c Config
	keys, err := parseKeys(b)
	if err != nil {
		return c, err
	}
	var kind struct {
		ModelType     string   `json:"model_type"`
		Architectures []string `json:"architectures"` // tells kinds of models apart: modelcard
	}
	if err := keys.Read(&kind); err != nil {
		return c, err
	}
	a, ok := architectures[kind.ModelType]
	if !ok {
		return c, fmt.Errorf("model_type is %q, want one of: %s", kind.ModelType, strings.Join(Architectures, ", "))
	}
	keys.ignores = a.ignores
	if err := a.read(keys, &c); err != nil {
		return c, err
	}
	c.ModelType, c.Keys, c.Prefix = kind.ModelType, keys, cmp.Or(c.Prefix, a.prefix)
	return c, c.Validate()
}

// Validate returns an error that names the first key of the config with a value that this package cannot compute.
func (c Config) Validate() error {
	switch {
	case !slices.Contains(Activations, c.HiddenAct):
		return fmt.Errorf("hidden_act is %q, want one of: %s", c.HiddenAct, strings.Join(Activations, ", "))
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
	if c.Blocks.HeadWidth == 0 && c.HiddenSize%c.NumAttentionHeads != 0 {
		return fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
	}
	if kv := c.keyValueHeads(); kv <= 0 || c.NumAttentionHeads%kv != 0 {
		return fmt.Errorf("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.NumAttentionHeads, kv)
	}
	if c.Blocks.Rotary != nil && c.HeadSize()%2 != 0 {
		return fmt.Errorf("a head of %d numbers cannot be rotated: want an even number", c.HeadSize())
	}
	for _, k := range []struct {
		key  string
		rate float64
	}{{"hidden_dropout_prob", c.HiddenDropout}, {"attention_probs_dropout_prob", c.AttentionDropout},
		{"the activation's dropout", c.ActivationDropout}, {"classifier_dropout", c.HeadDropout()}} {
		if !(k.rate >= 0 && k.rate < 1) {
			return fmt.Errorf("%s is %g, want a rate of at least 0 and below 1", k.key, k.rate)
		}
	}
	return nil
}

// HeadSize is the width of one attention head.
func (c Config) HeadSize() int64 {
	if c.Blocks.HeadWidth > 0 {
		return c.Blocks.HeadWidth
	}
	return c.HiddenSize / c.NumAttentionHeads
}

// scoreWidth is n in attention's scores q·k/√n.
func (c Config) scoreWidth() float64 {
	if c.Blocks.ScoreWidth > 0 {
		return c.Blocks.ScoreWidth
	}
	return float64(c.HeadSize())
}

func (c Config) keyValueHeads() int64 {
	if c.Blocks.KeyValueHeads > 0 {
		return c.Blocks.KeyValueHeads
	}
	return c.NumAttentionHeads
}

// HeadDropout is the dropout rate of a classification head.
func (c Config) HeadDropout() float64 {
	if c.ClassifierDropout != nil {
		return *c.ClassifierDropout
	}
	return c.HiddenDropout
}

// SetDropout sets every dropout rate.
func (c *Config) SetDropout(rate float64) {
	c.HiddenDropout, c.AttentionDropout, c.ActivationDropout, c.ClassifierDropout = rate, rate, rate, nil
}

// SetFusedAttention switches the attention kernel on or off. It computes plain attention only: no architecture whose queries
// and keys are rotated, whose heads share keys, or whose tokens see only a part of their text.
func (c *Config) SetFusedAttention(on bool) error {
	if on && (!c.jointProjection() || c.Blocks.Causal || c.window() != NoWindow) {
		return fmt.Errorf("fused_attention: the kernel cannot compute the attention of model_type %s; leave it out", c.ModelType)
	}
	c.FusedAttention = on
	return nil
}

// attentionOutputRate is the dropout rate of attention's output. ModernBERT has one rate for probabilities and output.
func (c Config) attentionOutputRate() float64 {
	if c.Blocks.PreNorm {
		return c.AttentionDropout
	}
	return c.HiddenDropout
}

// masksByPlace says whether masks of layers without a window depend on the places of tokens in their texts.
func (c Config) masksByPlace() bool { return c.Blocks.Causal }

// jointProjection says whether queries, keys and values are one product that is gathered into the groups as it is. Where
// they are rotated, they are taken apart first.
func (c Config) jointProjection() bool {
	return c.layer(0).queryKeyValue != "" && c.Blocks.Rotary == nil
}

// firstPosition is the position of a text's first token.
func (c Config) firstPosition() int64 {
	if c.architecture().offset {
		return c.PadTokenID + 1
	}
	return 0
}

// MaxLength is the most tokens that a text can have.
func (c Config) MaxLength() int { return int(c.MaxPositionEmbeddings - c.firstPosition()) }

// HasTypes says whether the two texts of a pair differ in their token types. Exported models with a single type do not take
// token types as an input.
func (c Config) HasTypes() bool { return c.TypeVocabSize > 1 }
