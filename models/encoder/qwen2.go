package encoder

// Qwen2 is a decoder whose queries, keys and values have biases.
// Source: Yang et al. 2024, as transformers' Qwen2Model computes it.
var qwen2 = architecture{read: readQwen2, names: decoderNames, prefix: "model.", spellings: []spelling{decoderSources}}

// qwenConfig has the keys of config.json that Qwen2 and Qwen3 share.
type qwenConfig struct {
	decoderConfig
	maskKeys
	ropeKeys
	slidingKeys
	HiddenAct string `json:"hidden_act"`
}

func qwenDefaults() qwenConfig {
	return qwenConfig{
		decoderConfig: decoderConfig{
			VocabSize: 151936, HiddenSize: 4096, IntermediateSize: 22016, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: number(32),
			MaxPositionEmbeddings: 32768, InitializerRange: 0.02, RMSNormEps: 1e-6,
		},
		ropeKeys: ropeKeys{RopeTheta: 10000}, slidingKeys: slidingKeys{SlidingWindow: 4096, MaxWindowLayers: 28}, HiddenAct: "silu",
	}
}

// fill fills a Config with what the keys say.
func (q qwenConfig) fill(c *Config) (err error) {
	*c = q.config()
	c.HiddenAct, c.Blocks.Causal = q.HiddenAct, q.causal()
	if c.Blocks.Windows, err = q.windows(q.NumHiddenLayers); err != nil {
		return err
	}
	return q.set(c)
}

func readQwen2(k *Keys, c *Config) error {
	q := qwenDefaults()
	if err := k.Read(&q); err != nil {
		return err
	}
	err := q.fill(c)
	c.Blocks.QueryKeyValueBias = true
	return err
}
