package encoder

import "strings"

// Qwen3 is a decoder that is used as an encoder: RMSNorm before each block, rotary positions, SwiGLU, fewer key-value heads than
// query heads, norms of each head's queries and keys, and causal attention.
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

// qwen3Sources: a checkpoint has separate tensors for keys and values, and for the gate and what it multiplies.
func qwen3Sources(param string) []string {
	for joined, parts := range map[string][]string{".kv_proj.": {".k_proj.", ".v_proj."}, ".gate_up_proj.": {".gate_proj.", ".up_proj."}} {
		if strings.Contains(param, joined) {
			return []string{strings.Replace(param, joined, parts[0], 1), strings.Replace(param, joined, parts[1], 1)}
		}
	}
	return []string{param}
}

func readQwen3(k *Keys, c *Config) error {
	heads := int64(32)
	q := struct {
		VocabSize             int64           `json:"vocab_size"`
		HiddenSize            int64           `json:"hidden_size"`
		IntermediateSize      int64           `json:"intermediate_size"`
		NumHiddenLayers       int             `json:"num_hidden_layers"`
		NumAttentionHeads     int64           `json:"num_attention_heads"`
		NumKeyValueHeads      *int64          `json:"num_key_value_heads"`
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
		RopeScaling           *ropeParameters `json:"rope_scaling"`
		UseSlidingWindow      bool            `json:"use_sliding_window"`
		SlidingWindow         int64           `json:"sliding_window"`
		MaxWindowLayers       int             `json:"max_window_layers"`
		LayerTypes            []string        `json:"layer_types"`
		IsCausal              *bool           `json:"is_causal"`
		Bidirectional         bool            `json:"use_bidirectional_attention"`
	}{
		VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: &heads,
		HeadDim: 128, HiddenAct: "silu", MaxPositionEmbeddings: 32768, InitializerRange: 0.02, RMSNormEps: 1e-6, RopeTheta: 10000,
		SlidingWindow: 4096, MaxWindowLayers: 28,
	}
	if err := k.Read(&q); err != nil {
		return err
	}
	rope, key := ropeParameters{}, "rope_parameters"
	switch {
	case q.RopeScaling != nil && *q.RopeScaling != rope: // replaces rope_parameters as a whole
		rope, key = *q.RopeScaling, "rope_scaling"
	case q.RopeParameters != nil:
		rope = *q.RopeParameters
	}
	by, err := rope.rotation(key, q.RopeTheta)
	if err != nil {
		return err
	}
	keyValueHeads := q.NumAttentionHeads
	if q.NumKeyValueHeads != nil {
		keyValueHeads = *q.NumKeyValueHeads
	}
	types := q.LayerTypes
	if types == nil {
		for i := range q.NumHiddenLayers {
			types = append(types, map[bool]string{true: slidingAttention, false: fullAttention}[q.UseSlidingWindow && i >= q.MaxWindowLayers])
		}
	}
	windows, err := windows(types, q.NumHiddenLayers, q.SlidingWindow-1) // sliding_window counts the token itself
	if err != nil {
		return err
	}
	*c = Config{
		ModelType: "qwen3", VocabSize: q.VocabSize, EmbeddingSize: q.HiddenSize, HiddenSize: q.HiddenSize,
		NumHiddenLayers: q.NumHiddenLayers, NumAttentionHeads: q.NumAttentionHeads, IntermediateSize: q.IntermediateSize,
		HiddenAct: q.HiddenAct, AttentionDropout: q.AttentionDropout, MaxPositionEmbeddings: q.MaxPositionEmbeddings,
		LayerNormEps: q.RMSNormEps, InitializerRange: q.InitializerRange,
		Blocks: Blocks{
			PreNorm: true, RMSNorm: true, KeyValueHeads: keyValueHeads, HeadWidth: q.HeadDim, QueryKeyNorm: true,
			AttentionBias: q.AttentionBias, Gated: true,
			Causal: !q.Bidirectional && (q.IsCausal == nil || *q.IsCausal), Windows: windows,
		},
	}
	if q.PadTokenID != nil {
		c.PadTokenID = *q.PadTokenID
	}
	for range q.NumHiddenLayers {
		c.Blocks.Rotary = append(c.Blocks.Rotary, by)
	}
	return nil
}
