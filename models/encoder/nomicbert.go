package encoder

import (
	"fmt"
	"strings"
)

// NomicBERT is BERT with rotary positions, a gated feed-forward block, and no biases in its linear layers. The files that its authors
// published have GPT-2's keys and tensor names of their own; transformers' files have BERT's keys.
// Source: Nussbaum et al. 2024, as transformers' NomicBertModel computes it.
var nomicbert = architecture{
	read: readNomicbert, names: rotaryBertNames,
	prefix: "nomic_bert.", spellings: []spelling{separateSources, nomicSources},
	ignores: map[string]string{
		"dense_seq_output": ofPretraining, "last_layer_subset": ofPretraining, "fused_bias_fc": ofKernel, "fused_dropout_add_ln": ofKernel,
		"use_flash_attn": ofKernel, "use_xentropy": ofKernel, "mlp_checkpoint_lvl": ofPretraining, "pad_vocab_size_multiple": "the weights say it",
		"rotary_emb_scale_base": "for xPos only", "reorder_and_upcast_attn": ofKernel, "scale_attn_by_inverse_layer_idx": "false is all that is computed",
		"scale_attn_weights": "scores are always scaled", "max_trained_positions": "for rotary_scaling_factor only", "summary_activation": ofClassifier,
		"summary_first_dropout": ofClassifier, "summary_proj_to_labels": ofClassifier, "summary_type": ofClassifier, "summary_use_proj": ofClassifier,
		"causal_lm": ofPretraining, "embd_pdrop": "resid_pdrop says it", "num_experts": "for moe_every_n_layers only",
	},
}

// Why NomicBERT's keys are ignored.
const (
	ofPretraining = "for pretraining only"
	ofKernel      = "for a CUDA kernel only"
)

// nomicSources are the names of the authors' own files.
func nomicSources(param string) []string {
	name := strings.NewReplacer(
		"embeddings.LayerNorm.", "emb_ln.", "layers.", "encoder.layers.", ".self_attn.qkv_proj.", ".attn.Wqkv.", ".self_attn.o_proj.", ".attn.out_proj.",
		".post_attention_layernorm.", ".norm1.", ".post_mlp_layernorm.", ".norm2.", ".down_proj.", ".fc2.",
	).Replace(param)
	if before, after, ok := strings.Cut(name, ".up_gate_proj."); ok {
		return []string{before + ".fc11." + after, before + ".fc12." + after}
	}
	return []string{name}
}

// nomicConfig has the keys of config.json that only the authors' own files have. They have these instead of BERT's.
type nomicConfig struct {
	Width          int64    `json:"n_embd"`
	Inner          int64    `json:"n_inner"`
	Layers         int      `json:"n_layer"`
	Heads          int64    `json:"n_head"`
	Positions      int64    `json:"n_positions"`
	Activation     string   `json:"activation_function"`
	NormEps        float64  `json:"layer_norm_epsilon"`
	ResidDropout   float64  `json:"resid_pdrop"`
	AttnDropout    float64  `json:"attn_pdrop"`
	RotaryFraction float64  `json:"rotary_emb_fraction"`
	RotaryBase     float64  `json:"rotary_emb_base"`
	RotaryScaling  *float64 `json:"rotary_scaling_factor"`
	Interleaved    bool     `json:"rotary_emb_interleaved"`
	PreNorm        bool     `json:"prenorm"`
	Parallel       bool     `json:"parallel_block"`
	RMSNorm        bool     `json:"use_rms_norm"`
	Causal         bool     `json:"causal"`
	QKVBias        bool     `json:"qkv_proj_bias"`
	UpBias         bool     `json:"mlp_fc1_bias"`
	DownBias       bool     `json:"mlp_fc2_bias"`
	ExpertsEvery   int      `json:"moe_every_n_layers"`
}

func readNomicbert(k *Keys, c *Config) error {
	x := struct {
		bertConfig
		ropeKeys
	}{
		bertConfig{
			VocabSize: 30528, HiddenSize: 768, NumHiddenLayers: 12, NumAttentionHeads: 12, IntermediateSize: 3072, HiddenAct: "silu",
			MaxPositionEmbeddings: 2048, TypeVocabSize: 2, LayerNormEps: 1e-12, InitializerRange: 0.02,
		},
		ropeKeys{RopeTheta: 1000},
	}
	n, prefix := nomicConfig{RotaryFraction: 1}, ""
	if err := k.Read(&x); err != nil {
		return err
	}
	if err := k.Read(&n); err != nil {
		return err
	}
	if err := n.check(); err != nil {
		return err
	}
	if n.Width != 0 { // the authors' own file
		x.HiddenSize, x.IntermediateSize, x.NumHiddenLayers, x.NumAttentionHeads, x.MaxPositionEmbeddings = n.Width, n.Inner, n.Layers, n.Heads, n.Positions
		x.HiddenDropout, x.AttentionDropout, x.LayerNormEps, x.RopeTheta = n.ResidDropout, n.AttnDropout, n.NormEps, n.RotaryBase
		prefix = "bert."
		if x.IntermediateSize == 0 {
			x.IntermediateSize = 4 * n.Width
		}
	}
	*c = x.config(rotaryBertBlocks())
	c.Prefix = prefix
	c.Blocks.QueryKeyValueBias, c.Blocks.AttentionOutputBias, c.Blocks.UpBias, c.Blocks.DownBias = n.QKVBias, n.QKVBias, n.UpBias, n.DownBias
	return x.set(c)
}

// check refuses what the architecture's own code can compute and this package cannot.
func (n nomicConfig) check() error {
	if n.ExpertsEvery > 0 {
		return fmt.Errorf("moe_every_n_layers is %d: a mixture of experts (nomic-embed-text-v2-moe) is not computed here", n.ExpertsEvery)
	}
	for _, x := range []struct {
		key   string
		value any
		wrong bool
	}{
		{"activation_function", n.Activation, n.Activation != "" && n.Activation != "swiglu"},
		{"rotary_emb_fraction", n.RotaryFraction, n.RotaryFraction != 1},
		{"rotary_emb_interleaved", n.Interleaved, n.Interleaved},
		{"prenorm", n.PreNorm, n.PreNorm},
		{"parallel_block", n.Parallel, n.Parallel},
		{"use_rms_norm", n.RMSNorm, n.RMSNorm},
		{"causal", n.Causal, n.Causal},
	} {
		if x.wrong {
			return fmt.Errorf("%s is %v, which is not computed here for NomicBERT", x.key, x.value)
		}
	}
	if s := n.RotaryScaling; s != nil && *s != 1 {
		return fmt.Errorf("rotary_scaling_factor is %g, want null: rotary positions that change with the length are not computed here", *s)
	}
	return nil
}
