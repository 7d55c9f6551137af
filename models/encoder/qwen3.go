package encoder

// Qwen3 is a decoder with norms of each head's queries and keys.
// Source: Yang et al. 2025, as transformers' Qwen3Model computes it.
var qwen3 = architecture{read: readQwen3, names: qwen3Names, prefix: "model.", spellings: []spelling{decoderSources}}

func qwen3Names() names {
	n := decoderNames()
	n.layer.queryNorm, n.layer.keyNorm = "layers.%d.self_attn.q_norm", "layers.%d.self_attn.k_norm"
	return n
}

func readQwen3(k *Keys, c *Config) error {
	q := struct {
		decoderConfig
		maskKeys
		ropeKeys
		slidingKeys
		HeadDim       int64  `json:"head_dim"`
		HiddenAct     string `json:"hidden_act"`
		AttentionBias bool   `json:"attention_bias"`
	}{
		decoderConfig: decoderConfig{
			VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: number(32),
			MaxPositionEmbeddings: 32768, InitializerRange: 0.02, RMSNormEps: 1e-6,
		},
		ropeKeys: ropeKeys{RopeTheta: 10000}, slidingKeys: slidingKeys{SlidingWindow: 4096, MaxWindowLayers: 28}, HeadDim: 128, HiddenAct: "silu",
	}
	if err := k.Read(&q); err != nil {
		return err
	}
	*c = q.config()
	c.HiddenAct = q.HiddenAct
	c.Blocks.HeadWidth, c.Blocks.QueryKeyNorm, c.Blocks.Causal = q.HeadDim, true, q.causal()
	c.Blocks.QueryKeyValueBias, c.Blocks.AttentionOutputBias = q.AttentionBias, q.AttentionBias
	var err error
	if c.Blocks.Windows, err = q.windows(q.NumHiddenLayers); err != nil {
		return err
	}
	return q.set(c)
}
