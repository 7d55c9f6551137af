package encoder

// Mistral is a decoder all of whose layers see a window.
// Source: Jiang et al. 2023, as transformers' MistralModel computes it.
var mistral = architecture{read: readMistral, names: decoderNames, prefix: "model.", spellings: []spelling{decoderSources}}

func readMistral(k *Keys, c *Config) error {
	m := struct {
		decoderConfig
		maskKeys
		ropeKeys
		HeadDim       int64  `json:"head_dim"`
		HiddenAct     string `json:"hidden_act"`
		SlidingWindow *int64 `json:"sliding_window"` // null: there is no window
	}{
		decoderConfig: decoderConfig{
			VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32, NumAttentionHeads: 32, NumKeyValueHeads: number(8),
			MaxPositionEmbeddings: 131072, InitializerRange: 0.02, RMSNormEps: 1e-6,
		},
		ropeKeys: ropeKeys{RopeTheta: 10000}, HiddenAct: "silu", SlidingWindow: number(4096),
	}
	if err := k.Read(&m); err != nil {
		return err
	}
	*c = m.config()
	c.HiddenAct, c.Blocks.HeadWidth, c.Blocks.Causal = m.HiddenAct, m.HeadDim, m.causal()
	if m.SlidingWindow != nil {
		types := make([]string, c.NumHiddenLayers)
		for i := range types {
			types[i] = slidingAttention
		}
		var err error
		if c.Blocks.Windows, err = windows(types, c.NumHiddenLayers, *m.SlidingWindow-1); err != nil { // it counts the token itself
			return err
		}
	}
	return m.set(c)
}
