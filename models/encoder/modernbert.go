package encoder

import "fmt"

// ModernBERT: pre-norm, rotary positions, GeGLU, and attention that sees everything in every third layer and a window in
// the others. Source: Warner et al. 2024, as transformers' ModernBertModel computes it.
var modernbert = architecture{read: readModernbert, names: modernbertNames, prefix: "model.", ignores: map[string]string{
	"classifier_activation": ofClassifier, "classifier_bias": ofClassifier, "classifier_pooling": ofClassifier, "initializer_cutoff_factor": ofClassifier,
	"decoder_bias": "for a language model's head only", "sparse_prediction": "for a language model's head only", "sparse_pred_ignore_index": "for a language model's head only",
	"deterministic_flash_attn": "for a CUDA kernel only", "reference_compile": "for torch only", "repad_logits_with_grad": "for torch only",
	"layer_norm_eps": "norm_eps says it", "position_embedding_type": "positions are rotary",
}}

// ofClassifier is why an encoder without a classifier ignores a key.
const ofClassifier = "for a classifier's head only"

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

// modernbertConfig has the keys of config.json; today's transformers writes layer_types and rope_parameters.
type modernbertConfig struct {
	VocabSize             int64             `json:"vocab_size"`
	HiddenSize            int64             `json:"hidden_size"`
	IntermediateSize      int64             `json:"intermediate_size"`
	NumHiddenLayers       int               `json:"num_hidden_layers"`
	NumAttentionHeads     int64             `json:"num_attention_heads"`
	HiddenActivation      string            `json:"hidden_activation"`
	MaxPositionEmbeddings int64             `json:"max_position_embeddings"`
	InitializerRange      float64           `json:"initializer_range"`
	NormEps               float64           `json:"norm_eps"`
	NormBias              bool              `json:"norm_bias"`
	PadTokenID            int64             `json:"pad_token_id"`
	AttentionBias         bool              `json:"attention_bias"`
	AttentionDropout      float64           `json:"attention_dropout"`
	EmbeddingDropout      float64           `json:"embedding_dropout"`
	MLPBias               bool              `json:"mlp_bias"`
	MLPDropout            float64           `json:"mlp_dropout"`
	ClassifierDropout     float64           `json:"classifier_dropout"`
	GlobalEvery           int               `json:"global_attn_every_n_layers"`
	LocalAttention        int64             `json:"local_attention"`
	GlobalBase            float64           `json:"global_rope_theta"`
	LocalBase             float64           `json:"local_rope_theta"`
	LayerTypes            []string          `json:"layer_types"`
	RopeParameters        layeredParameters `json:"rope_parameters"`
	RopeScaling           *struct {
		Type string `json:"rope_type"`
	} `json:"rope_scaling"`
}

func readModernbert(k *Keys, c *Config) error {
	m := modernbertConfig{
		VocabSize: 50368, HiddenSize: 768, IntermediateSize: 1152, NumHiddenLayers: 22, NumAttentionHeads: 12,
		HiddenActivation: "gelu", MaxPositionEmbeddings: 8192, InitializerRange: 0.02, NormEps: 1e-5, PadTokenID: 50283,
		GlobalEvery: 3, LocalAttention: 128, GlobalBase: 160000, LocalBase: 10000,
	}
	if err := k.Read(&m); err != nil {
		return err
	}
	*c = Config{
		ModelType: "modernbert", VocabSize: m.VocabSize, EmbeddingSize: m.HiddenSize, HiddenSize: m.HiddenSize,
		NumHiddenLayers: m.NumHiddenLayers, NumAttentionHeads: m.NumAttentionHeads, IntermediateSize: m.IntermediateSize,
		HiddenAct: m.HiddenActivation, HiddenDropout: m.EmbeddingDropout, AttentionDropout: m.AttentionDropout,
		ActivationDropout: m.MLPDropout, ClassifierDropout: &m.ClassifierDropout, MaxPositionEmbeddings: m.MaxPositionEmbeddings,
		LayerNormEps: m.NormEps, PadTokenID: m.PadTokenID, InitializerRange: m.InitializerRange,
		Blocks: Blocks{
			PreNorm: true, NoFirstNorm: true, EmbeddingNorm: true, NormBias: m.NormBias, QueryKeyValueBias: m.AttentionBias, AttentionOutputBias: m.AttentionBias,
			Gated: true, UpBias: m.MLPBias, DownBias: m.MLPBias, AttentionOutputDropout: true, ActivationDropout: true,
		},
	}
	return m.layers(c)
}

// layers sets each layer's window and rotation.
func (m modernbertConfig) layers(c *Config) error {
	if m.RopeScaling != nil && m.RopeScaling.Type != "" && m.RopeScaling.Type != "default" { // with the older key "type" it has no effect
		return fmt.Errorf("rope_scaling: rope_type is %q, want default: ModernBERT is not scaled here", m.RopeScaling.Type)
	}
	types := m.LayerTypes
	if types == nil {
		if m.GlobalEvery <= 0 {
			return fmt.Errorf("global_attn_every_n_layers is %d, want a positive number", m.GlobalEvery)
		}
		for i := range m.NumHiddenLayers {
			types = append(types, map[bool]string{true: fullAttention, false: slidingAttention}[i%m.GlobalEvery == 0])
		}
	}
	return m.RopeParameters.set(c, types, m.LocalAttention/2, m.GlobalBase, m.LocalBase)
}
