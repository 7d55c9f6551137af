package encoder

import (
	"encoding/json"
	"fmt"
)

// ModernBERT: pre-norm, rotary positions, GeGLU, and attention that sees everything in every third layer and a window in
// the others. Source: Warner et al. 2024, as transformers' ModernBertModel computes it.
var modernbert = architecture{read: readModernbert, prefix: "model.", names: modernbertNames}

func modernbertNames() names {
	const layer = "layers.%d."
	return names{
		words: "embeddings.tok_embeddings.weight", embeddingNorm: "embeddings.norm", finalNorm: "final_norm",
		layer: layerNames{
			queryKeyValue: layer + "attn.Wqkv", attentionOutput: layer + "attn.Wo", attentionNorm: layer + "attn_norm",
			up: layer + "mlp.Wi", down: layer + "mlp.Wo", feedForwardNorm: layer + "mlp_norm",
		},
	}
}

// ropeParameters is today's spelling of a rotary embedding.
type ropeParameters struct {
	Type string  `json:"rope_type"`
	Base float64 `json:"rope_theta"`
}

// check refuses what is computed in another way than by the base alone.
func (r ropeParameters) check(key string) error {
	if r.Type != "" && r.Type != "default" {
		return fmt.Errorf("%s: rope_type is %q, want default: scaled rotary embeddings are not computed here", key, r.Type)
	}
	return nil
}

// modernbertConfig has the keys of config.json; today's transformers writes layer_types and rope_parameters.
type modernbertConfig struct {
	VocabSize             int64    `json:"vocab_size"`
	HiddenSize            int64    `json:"hidden_size"`
	IntermediateSize      int64    `json:"intermediate_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int64    `json:"num_attention_heads"`
	HiddenActivation      string   `json:"hidden_activation"`
	MaxPositionEmbeddings int64    `json:"max_position_embeddings"`
	InitializerRange      float64  `json:"initializer_range"`
	NormEps               float64  `json:"norm_eps"`
	NormBias              bool     `json:"norm_bias"`
	PadTokenID            int64    `json:"pad_token_id"`
	AttentionBias         bool     `json:"attention_bias"`
	AttentionDropout      float64  `json:"attention_dropout"`
	EmbeddingDropout      float64  `json:"embedding_dropout"`
	MLPBias               bool     `json:"mlp_bias"`
	MLPDropout            float64  `json:"mlp_dropout"`
	ClassifierDropout     float64  `json:"classifier_dropout"`
	GlobalEvery           int      `json:"global_attn_every_n_layers"`
	LocalAttention        int64    `json:"local_attention"`
	GlobalBase            float64  `json:"global_rope_theta"`
	LocalBase             *float64 `json:"local_rope_theta"`
	LayerTypes            []string `json:"layer_types"`
	RopeParameters        struct {
		Full    *ropeParameters `json:"full_attention"`
		Sliding *ropeParameters `json:"sliding_attention"`
	} `json:"rope_parameters"`
}

func readModernbert(b []byte, c *Config) error {
	local := 10000.0
	m := modernbertConfig{
		VocabSize: 50368, HiddenSize: 768, IntermediateSize: 1152, NumHiddenLayers: 22, NumAttentionHeads: 12,
		HiddenActivation: "gelu", MaxPositionEmbeddings: 8192, InitializerRange: 0.02, NormEps: 1e-5, PadTokenID: 50283,
		GlobalEvery: 3, LocalAttention: 128, GlobalBase: 160000, LocalBase: &local,
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*c = Config{
		ModelType: "modernbert", VocabSize: m.VocabSize, EmbeddingSize: m.HiddenSize, HiddenSize: m.HiddenSize,
		NumHiddenLayers: m.NumHiddenLayers, NumAttentionHeads: m.NumAttentionHeads, IntermediateSize: m.IntermediateSize,
		HiddenAct: m.HiddenActivation, HiddenDropout: m.EmbeddingDropout, AttentionDropout: m.AttentionDropout,
		ActivationDropout: m.MLPDropout, ClassifierDropout: &m.ClassifierDropout, MaxPositionEmbeddings: m.MaxPositionEmbeddings,
		LayerNormEps: m.NormEps, PadTokenID: m.PadTokenID, InitializerRange: m.InitializerRange,
		Blocks: Blocks{
			PreNorm: true, BareFirst: true, EmbeddingNorm: true, NormBias: m.NormBias, AttentionBias: m.AttentionBias,
			Gated: true, FeedForwardBias: m.MLPBias, AttentionOutputDropout: true, ActivationDropout: true,
		},
	}
	return m.layers(c)
}

// layers says of each layer how far it sees, and by which base it rotates.
func (m modernbertConfig) layers(c *Config) error {
	full, sliding := m.GlobalBase, m.GlobalBase
	if m.LocalBase != nil {
		sliding = *m.LocalBase
	}
	for key, x := range map[string]struct {
		from *ropeParameters
		to   *float64
	}{"full_attention": {m.RopeParameters.Full, &full}, "sliding_attention": {m.RopeParameters.Sliding, &sliding}} {
		if x.from == nil {
			continue
		}
		if err := x.from.check("rope_parameters." + key); err != nil {
			return err
		}
		*x.to = x.from.Base
	}
	if m.LayerTypes == nil && m.GlobalEvery <= 0 || m.LayerTypes != nil && len(m.LayerTypes) != m.NumHiddenLayers {
		return fmt.Errorf("layer_types has %d entries and global_attn_every_n_layers is %d, for %d layers", len(m.LayerTypes), m.GlobalEvery, m.NumHiddenLayers)
	}
	for i := range m.NumHiddenLayers {
		global := m.LayerTypes == nil && i%max(m.GlobalEvery, 1) == 0
		if m.LayerTypes != nil {
			switch m.LayerTypes[i] {
			case "full_attention":
				global = true
			case "sliding_attention":
			default:
				return fmt.Errorf("layer_types[%d] is %q, want full_attention or sliding_attention", i, m.LayerTypes[i])
			}
		}
		window, base := m.LocalAttention/2, sliding
		if global {
			window, base = 0, full
		}
		c.Blocks.Windows, c.Blocks.Rotary = append(c.Blocks.Windows, window), append(c.Blocks.Rotary, base)
	}
	return nil
}
