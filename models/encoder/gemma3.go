package encoder

import (
	"fmt"
	"math"
)

// Gemma3 is a decoder with scaled word embeddings, norms before and behind each block that multiply by 1 + weight, and a window
// in five of six layers, whose rotary positions have a base of their own. EmbeddingGemma is one without the causal mask.
// Source: Gemma Team 2025, as transformers' Gemma3TextModel computes it.
var gemma3 = architecture{read: readGemma3, names: gemma3Names, prefix: "model.", spellings: []spelling{decoderSources}, ignores: map[string]string{
	"final_logit_softcapping": "for a language model's head only",
}}

func gemma3Names() names {
	const layer = "layers.%d."
	n := qwen3Names()
	n.layer.attentionOutputNorm, n.layer.feedForwardNorm = layer+"post_attention_layernorm", layer+"pre_feedforward_layernorm"
	n.layer.feedForwardOutputNorm = layer + "post_feedforward_layernorm"
	return n
}

// gemma3Config has the keys of config.json; older files have rope_theta, rope_local_base_freq and sliding_window_pattern instead of
// rope_parameters and layer_types.
type gemma3Config struct {
	decoderConfig
	HeadDim        int64             `json:"head_dim"`
	HiddenAct      string            `json:"hidden_activation"`
	AttentionBias  bool              `json:"attention_bias"`
	ScoreWidth     float64           `json:"query_pre_attn_scalar"`
	SlidingWindow  int64             `json:"sliding_window"`
	LayerTypes     []string          `json:"layer_types"`
	Pattern        int               `json:"sliding_window_pattern"`
	OldPattern     int               `json:"_sliding_window_pattern"`
	SoftCapping    *float64          `json:"attn_logit_softcapping"`
	Bidirectional  bool              `json:"use_bidirectional_attention"`
	RopeTheta      float64           `json:"rope_theta"`
	LocalBase      float64           `json:"rope_local_base_freq"`
	RopeScaling    *ropeParameters   `json:"rope_scaling"`
	RopeParameters layeredParameters `json:"rope_parameters"`
}

func readGemma3(k *Keys, c *Config) error {
	x := gemma3Config{
		decoderConfig: decoderConfig{
			VocabSize: 262208, HiddenSize: 2304, IntermediateSize: 9216, NumHiddenLayers: 26, NumAttentionHeads: 8, NumKeyValueHeads: number(4),
			MaxPositionEmbeddings: 131072, InitializerRange: 0.02, RMSNormEps: 1e-6,
		},
		HeadDim: 256, HiddenAct: "gelu_pytorch_tanh", ScoreWidth: 256, SlidingWindow: 4096, RopeTheta: 1e6, LocalBase: 10000,
	}
	if err := k.Read(&x); err != nil {
		return err
	}
	if x.SoftCapping != nil {
		return fmt.Errorf("attn_logit_softcapping is %g, want null: capped scores are not computed", *x.SoftCapping)
	}
	if !(x.ScoreWidth > 0) {
		return fmt.Errorf("query_pre_attn_scalar is %g, want a positive number", x.ScoreWidth)
	}
	*c = x.config()
	c.HiddenAct = x.HiddenAct
	b := &c.Blocks
	b.HeadWidth, b.QueryKeyNorm, b.BranchNorm, b.NormPlusOne = x.HeadDim, true, true, true
	b.QueryKeyValueBias, b.AttentionOutputBias, b.Causal = x.AttentionBias, x.AttentionBias, !x.Bidirectional
	b.EmbeddingScale, b.ScoreWidth = math.Sqrt(float64(x.HiddenSize)), x.ScoreWidth
	return x.setLayers(c)
}

// setLayers sets each layer's window and rotation.
func (x gemma3Config) setLayers(c *Config) error {
	// sliding_window counts the token itself; without a causal mask half of it lies to either side.
	side := x.SlidingWindow - 1
	if x.Bidirectional {
		side = x.SlidingWindow / 2
	}
	if x.RopeScaling != nil {
		x.RopeParameters.Full = x.RopeScaling
	}
	return x.RopeParameters.set(c, x.types(), side, x.RopeTheta, x.LocalBase)
}

// types are the layers' kinds of attention: every sixth layer sees all, where the file says nothing else.
func (x gemma3Config) types() []string {
	if x.LayerTypes != nil {
		return x.LayerTypes
	}
	every := max(x.Pattern, x.OldPattern)
	if every < 1 {
		every = 6
	}
	types := make([]string, max(0, x.NumHiddenLayers))
	for i := range types {
		types[i] = map[bool]string{true: fullAttention, false: slidingAttention}[(i+1)%every == 0]
	}
	return types
}
