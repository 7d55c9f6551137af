package encoder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// GTE-new is BERT with rotary positions and a gated feed-forward block. Its model_type is "new" in the files that its authors
// published with code of their own, and "gte" in those of transformers, with other tensor names.
// Source: Zhang et al. 2024 (mGTE), as transformers' GteModel computes it.
var (
	gte    = architecture{read: readGTE, prefix: "gte.", names: rotaryBertNames, spellings: gteSpellings, ignores: gteIgnores}
	gteNew = architecture{read: readGTE, prefix: "new.", names: rotaryBertNames, spellings: gteSpellings, ignores: gteIgnores}

	gteSpellings = []spelling{separateSources, gteSources}
	gteIgnores   = map[string]string{
		"pack_qkv": "the weights say it", "unpad_inputs": "texts are always packed", "use_memory_efficient_attention": "for a CUDA kernel only",
		"logn_attention_clip1": "for logn_attention_scale only",
	}
)

// ntk is a rope_type, see Rotation.frequency.
const ntk = "ntk"

// rotaryBertNames are the names of GTE and NomicBERT.
func rotaryBertNames() names {
	const layer = "layers.%d."
	return names{
		words: "embeddings.word_embeddings.weight", types: "embeddings.token_type_embeddings.weight", embeddingNorm: "embeddings.LayerNorm",
		layer: layerNames{
			queryKeyValue: layer + "self_attn.qkv_proj", attentionOutput: layer + "self_attn.o_proj", attentionNorm: layer + "post_attention_layernorm",
			up: layer + "mlp.up_gate_proj", down: layer + "mlp.down_proj", feedForwardNorm: layer + "post_mlp_layernorm",
		},
	}
}

// separateSources: transformers has separate tensors for queries, keys and values, and for the gate and what it multiplies.
func separateSources(param string) []string {
	for joined, parts := range map[string][]string{
		".qkv_proj.": {".q_proj.", ".k_proj.", ".v_proj."}, ".up_gate_proj.": {".up_proj.", ".gate_proj."},
	} {
		if before, after, ok := strings.Cut(param, joined); ok {
			var out []string
			for _, part := range parts {
				out = append(out, before+part+after)
			}
			return out
		}
	}
	return []string{param}
}

// gteSources are the names of the authors' own files.
func gteSources(param string) []string {
	return []string{strings.NewReplacer(
		"layers.", "encoder.layer.", ".self_attn.", ".attention.", ".post_attention_layernorm.", ".attn_ln.", ".post_mlp_layernorm.", ".mlp_ln.",
	).Replace(param)}
}

func rotaryBertBlocks() Blocks {
	return Blocks{EmbeddingNorm: true, NormBias: true, Gated: true, GateLast: true, AttentionOutputDropout: true, OutputDropout: true}
}

func readGTE(k *Keys, c *Config) error {
	x := struct {
		bertConfig
		ropeKeys
		NormType  string `json:"layer_norm_type"`
		LogNScale bool   `json:"logn_attention_scale"`
	}{
		bertConfig: bertConfig{
			VocabSize: 250048, HiddenSize: 768, NumHiddenLayers: 12, NumAttentionHeads: 12, IntermediateSize: 3072, HiddenAct: "gelu",
			HiddenDropout: 0.1, MaxPositionEmbeddings: 8192, TypeVocabSize: 1, LayerNormEps: 1e-12, PadTokenID: 1,
			PositionEmbeddingType: "rope", InitializerRange: 0.02,
		},
		ropeKeys: ropeKeys{RopeTheta: 160000}, NormType: "layer_norm",
	}
	if err := k.Read(&x); err != nil {
		return err
	}
	switch {
	case x.PositionEmbeddingType != "rope":
		return fmt.Errorf("position_embedding_type is %q, want rope", x.PositionEmbeddingType)
	case x.NormType != "layer_norm":
		return fmt.Errorf("layer_norm_type is %q, want layer_norm", x.NormType)
	case x.LogNScale:
		return fmt.Errorf("logn_attention_scale is true, want false: scores are not scaled by the length here")
	}
	x.PositionEmbeddingType = ""
	*c = x.config(rotaryBertBlocks())
	c.ActivationDropout = x.HiddenDropout
	b := &c.Blocks
	b.QueryKeyValueBias, b.AttentionOutputBias, b.DownBias, b.ActivationDropout = true, true, true, true
	if s := x.RopeScaling; s != nil && cmp.Or(s.Type, s.OldType) == ntk {
		// Only the authors' own code computes it. At the longest text, the base is larger by the factor; shorter texts share it.
		if !(s.Factor > 0) {
			return fmt.Errorf("rope_scaling: factor is %g, want a positive number", s.Factor)
		}
		c.Blocks.Rotary = slices.Repeat([]Rotation{{Base: cmp.Or(s.Base, x.RopeTheta), Scaling: ntk, Factor: s.Factor}}, c.NumHiddenLayers)
		return nil
	}
	return x.set(c)
}
