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

// qwen3Config has the keys of config.json.
type qwen3Config struct {
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
}

func readQwen3(k *Keys, c *Config) error {
	keyValueHeads := int64(32)
	q := qwen3Config{
		VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: &keyValueHeads,
		HeadDim: 128, HiddenAct: "silu", MaxPositionEmbeddings: 32768, InitializerRange: 0.02, RMSNormEps: 1e-6, RopeTheta: 10000,
		SlidingWindow: 4096, MaxWindowLayers: 28,
	}
	if err := k.Read(&q); err != nil {
		return err
	}
	if q.NumKeyValueHeads == nil { // null in the file
		q.NumKeyValueHeads = &q.NumAttentionHeads
	}
	rotation, err := q.rotation()
	if err != nil {
		return err
	}
	windows, err := q.windows()
	if err != nil {
		return err
	}
	*c = Config{
		ModelType: "qwen3", VocabSize: q.VocabSize, EmbeddingSize: q.HiddenSize, HiddenSize: q.HiddenSize,
		NumHiddenLayers: q.NumHiddenLayers, NumAttentionHeads: q.NumAttentionHeads, IntermediateSize: q.IntermediateSize,
		HiddenAct: q.HiddenAct, AttentionDropout: q.AttentionDropout, MaxPositionEmbeddings: q.MaxPositionEmbeddings,
		LayerNormEps: q.RMSNormEps, InitializerRange: q.InitializerRange,
		Blocks: Blocks{
			PreNorm: true, RMSNorm: true, KeyValueHeads: *q.NumKeyValueHeads, HeadWidth: q.HeadDim, QueryKeyNorm: true,
			AttentionBias: q.AttentionBias, Gated: true,
			Causal: !q.Bidirectional && (q.IsCausal == nil || *q.IsCausal), Windows: windows,
		},
	}
	if q.PadTokenID != nil {
		c.PadTokenID = *q.PadTokenID
	}
	for range q.NumHiddenLayers {
		c.Blocks.Rotary = append(c.Blocks.Rotary, rotation)
	}
	return nil
}

// rotation is that of all layers.
func (q qwen3Config) rotation() (Rotation, error) {
	if none := (ropeParameters{}); q.RopeScaling != nil && *q.RopeScaling != none { // it replaces rope_parameters as a whole
		return q.RopeScaling.rotation("rope_scaling", q.RopeTheta)
	}
	if q.RopeParameters != nil {
		return q.RopeParameters.rotation("rope_parameters", q.RopeTheta)
	}
	return ropeParameters{}.rotation("rope_parameters", q.RopeTheta)
}

// windows are those of the layers. Older files name no layer_types: their first max_window_layers layers have no window.
func (q qwen3Config) windows() ([]int64, error) {
	types := q.LayerTypes
	if types == nil {
		for i := range q.NumHiddenLayers {
			types = append(types, map[bool]string{true: slidingAttention, false: fullAttention}[q.UseSlidingWindow && i >= q.MaxWindowLayers])
		}
	}
	return windows(types, q.NumHiddenLayers, q.SlidingWindow-1) // sliding_window counts the token itself
}
