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
		qwenConfig
		HeadDim       int64 `json:"head_dim"`
		AttentionBias bool  `json:"attention_bias"`
	}{qwenConfig: qwenDefaults(), HeadDim: 128}
	if err := k.Read(&q); err != nil {
		return err
	}
	err := q.fill(c)
	c.Blocks.HeadWidth, c.Blocks.QueryKeyNorm = q.HeadDim, true
	c.Blocks.QueryKeyValueBias, c.Blocks.AttentionOutputBias = q.AttentionBias, q.AttentionBias
	return err
}
