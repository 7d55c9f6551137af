package encoder

import "strings"

// Decoders that are used as encoders share their blocks, their keys and the names of their tensors: RMSNorm before each block,
// rotary positions, a gated feed-forward block, and often fewer key-value heads than query heads. The last token's state, or the
// mean of all, stands for the text.

func decoderNames() names {
	const layer = "layers.%d."
	return names{
		words: "embed_tokens.weight", finalNorm: "norm",
		layer: layerNames{
			query: layer + "self_attn.q_proj", keyValue: layer + "self_attn.kv_proj", attentionOutput: layer + "self_attn.o_proj",
			attentionNorm: layer + "input_layernorm", feedForwardNorm: layer + "post_attention_layernorm",
			up: layer + "mlp.gate_up_proj", down: layer + "mlp.down_proj",
		},
	}
}

// decoderSources: a checkpoint has separate tensors for keys and values, and for the gate and what it multiplies.
func decoderSources(param string) []string {
	for joined, parts := range map[string][]string{".kv_proj.": {".k_proj.", ".v_proj."}, ".gate_up_proj.": {".gate_proj.", ".up_proj."}} {
		if strings.Contains(param, joined) {
			return []string{strings.Replace(param, joined, parts[0], 1), strings.Replace(param, joined, parts[1], 1)}
		}
	}
	return []string{param}
}

// decoderConfig has the keys of config.json that all decoders have.
type decoderConfig struct {
	VocabSize             int64   `json:"vocab_size"`
	HiddenSize            int64   `json:"hidden_size"`
	IntermediateSize      int64   `json:"intermediate_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int64   `json:"num_attention_heads"`
	NumKeyValueHeads      *int64  `json:"num_key_value_heads"` // null means as many as query heads
	MaxPositionEmbeddings int64   `json:"max_position_embeddings"`
	InitializerRange      float64 `json:"initializer_range"`
	RMSNormEps            float64 `json:"rms_norm_eps"`
	PadTokenID            *int64  `json:"pad_token_id"`
	AttentionDropout      float64 `json:"attention_dropout"`
}

// config has what the keys say, and the blocks that all decoders have.
func (d decoderConfig) config() Config {
	c := Config{
		VocabSize: d.VocabSize, EmbeddingSize: d.HiddenSize, HiddenSize: d.HiddenSize, NumHiddenLayers: d.NumHiddenLayers,
		NumAttentionHeads: d.NumAttentionHeads, IntermediateSize: d.IntermediateSize, AttentionDropout: d.AttentionDropout,
		MaxPositionEmbeddings: d.MaxPositionEmbeddings, LayerNormEps: d.RMSNormEps, InitializerRange: d.InitializerRange,
		Blocks: Blocks{PreNorm: true, RMSNorm: true, Gated: true, KeyValueHeads: d.NumAttentionHeads},
	}
	if d.NumKeyValueHeads != nil {
		c.Blocks.KeyValueHeads = *d.NumKeyValueHeads
	}
	if d.PadTokenID != nil {
		c.PadTokenID = *d.PadTokenID
	}
	return c
}

// number is a pointer to a number, for keys that may be null.
func number(n int64) *int64 { return &n }

// maskKeys has the keys of config.json that make a decoder's attention bidirectional.
type maskKeys struct {
	IsCausal      *bool `json:"is_causal"`
	Bidirectional bool  `json:"use_bidirectional_attention"`
}

func (m maskKeys) causal() bool { return !m.Bidirectional && (m.IsCausal == nil || *m.IsCausal) }

// ropeKeys has the keys of config.json for rotary positions that are the same in all layers.
type ropeKeys struct {
	RopeTheta      float64         `json:"rope_theta"`
	RopeParameters *ropeParameters `json:"rope_parameters"`
	RopeScaling    *ropeParameters `json:"rope_scaling"`
}

// set sets the rotation of all layers.
func (r ropeKeys) set(c *Config) error {
	key, by := "rope_parameters", r.RopeParameters
	if none := (ropeParameters{}); r.RopeScaling != nil && *r.RopeScaling != none { // it replaces rope_parameters as a whole
		key, by = "rope_scaling", r.RopeScaling
	}
	rotation, err := by.rotation(key, r.RopeTheta, c.MaxPositionEmbeddings)
	if err != nil {
		return err
	}
	c.Blocks.Rotary = nil
	for range c.NumHiddenLayers {
		c.Blocks.Rotary = append(c.Blocks.Rotary, rotation)
	}
	return nil
}

// slidingKeys has the keys of config.json by which Qwen's later layers see a window only.
type slidingKeys struct {
	UseSlidingWindow bool     `json:"use_sliding_window"`
	SlidingWindow    int64    `json:"sliding_window"`
	MaxWindowLayers  int      `json:"max_window_layers"`
	LayerTypes       []string `json:"layer_types"`
}

// windows are those of the layers. Older files name no layer_types: their first max_window_layers layers have no window.
func (s slidingKeys) windows(layers int) ([]int64, error) {
	types := s.LayerTypes
	if types == nil {
		for i := range layers {
			types = append(types, map[bool]string{true: slidingAttention, false: fullAttention}[s.UseSlidingWindow && i >= s.MaxWindowLayers])
		}
	}
	return windows(types, layers, s.SlidingWindow-1) // sliding_window counts the token itself
}
