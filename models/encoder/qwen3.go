package encoder

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Qwen3: a decoder read as an encoder: pre-norm by RMSNorm, rotary positions, SwiGLU, fewer key-value heads than query
// heads, norms of each head's queries and keys, and attention to what stands before.
// Source: Yang et al. 2025, as transformers' Qwen3Model computes it.
var qwen3 = architecture{read: readQwen3, prefix: "model.", names: qwen3Names, sources: qwen3Sources}

func qwen3Names() names {
	const layer = "layers.%d."
	return names{
		words: "embed_tokens.weight", finalNorm: "norm",
		layer: layerNames{
			query: layer + "self_attn.q_proj", keyValue: layer + "self_attn.kv_proj",
			queryNorm: layer + "self_attn.q_norm", keyNorm: layer + "self_attn.k_norm", attentionOutput: layer + "self_attn.o_proj",
			attentionNorm: layer + "input_layernorm", feedForwardNorm: layer + "post_attention_layernorm",
			up: layer + "mlp.gate_up_proj", down: layer + "mlp.down_proj",
		},
	}
}

// qwen3Sources says that a checkpoint has keys and values apart, and the gate and what it multiplies.
func qwen3Sources(param string) []string {
	for joined, parts := range map[string][]string{".kv_proj.": {".k_proj.", ".v_proj."}, ".gate_up_proj.": {".gate_proj.", ".up_proj."}} {
		if strings.Contains(param, joined) {
			return []string{strings.Replace(param, joined, parts[0], 1), strings.Replace(param, joined, parts[1], 1)}
		}
	}
	return []string{param}
}

func readQwen3(b []byte, c *Config) error {
	q := struct {
		VocabSize             int64           `json:"vocab_size"`
		HiddenSize            int64           `json:"hidden_size"`
		IntermediateSize      int64           `json:"intermediate_size"`
		NumHiddenLayers       int             `json:"num_hidden_layers"`
		NumAttentionHeads     int64           `json:"num_attention_heads"`
		NumKeyValueHeads      int64           `json:"num_key_value_heads"`
		HeadDim               int64           `json:"head_dim"`
		HiddenAct             string          `json:"hidden_act"`
		MaxPositionEmbeddings int64           `json:"max_position_embeddings"`
		InitializerRange      float64         `json:"initializer_range"`
		RMSNormEps            float64         `json:"rms_norm_eps"`
		PadTokenID            *int64          `json:"pad_token_id"`
		AttentionBias         bool            `json:"attention_bias"`
		AttentionDropout      float64         `json:"attention_dropout"`
		RopeTheta             float64         `json:"rope_theta"`
		RopeParameters        *ropeParameters `json:"rope_parameters"`
		RopeScaling           map[string]any  `json:"rope_scaling"`
		UseSlidingWindow      bool            `json:"use_sliding_window"`
		Bidirectional         bool            `json:"use_bidirectional_attention"`
		LayerTypes            []string        `json:"layer_types"`
	}{
		VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: 32,
		HeadDim: 128, HiddenAct: "silu", MaxPositionEmbeddings: 32768, InitializerRange: 0.02, RMSNormEps: 1e-6, RopeTheta: 10000,
	}
	if err := json.Unmarshal(b, &q); err != nil {
		return err
	}
	base := q.RopeTheta
	if r := q.RopeParameters; r != nil {
		if err := r.check("rope_parameters"); err != nil {
			return err
		}
		if r.Base > 0 {
			base = r.Base
		}
	}
	if len(q.RopeScaling) > 0 {
		return fmt.Errorf("rope_scaling is %v: scaled rotary embeddings are not computed here", q.RopeScaling)
	}
	if q.UseSlidingWindow {
		return fmt.Errorf("use_sliding_window is true: a decoder's window is not computed here")
	}
	for i, t := range q.LayerTypes {
		if t != "full_attention" {
			return fmt.Errorf("layer_types[%d] is %q, want full_attention", i, t)
		}
	}
	*c = Config{
		ModelType: "qwen3", VocabSize: q.VocabSize, EmbeddingSize: q.HiddenSize, HiddenSize: q.HiddenSize,
		NumHiddenLayers: q.NumHiddenLayers, NumAttentionHeads: q.NumAttentionHeads, IntermediateSize: q.IntermediateSize,
		HiddenAct: q.HiddenAct, AttentionDropout: q.AttentionDropout, MaxPositionEmbeddings: q.MaxPositionEmbeddings,
		LayerNormEps: q.RMSNormEps, InitializerRange: q.InitializerRange,
		Blocks: Blocks{
			PreNorm: true, RMS: true, KeyValueHeads: q.NumKeyValueHeads, HeadWidth: q.HeadDim, QueryKeyNorm: true,
			AttentionBias: q.AttentionBias, Causal: !q.Bidirectional, Gated: true,
		},
	}
	if q.PadTokenID != nil {
		c.PadTokenID = *q.PadTokenID
	}
	for range q.NumHiddenLayers {
		c.Blocks.Rotary = append(c.Blocks.Rotary, base)
	}
	return nil
}
