package encoder

// LLaMA is the decoder that the others come from. EuroBERT has its blocks, without the causal mask.
// Source: Touvron et al. 2023 and Boizard et al. 2025, as transformers' LlamaModel and EuroBertModel compute them.
var (
	llama = architecture{read: readLlama, names: decoderNames, prefix: "model.", spellings: []spelling{decoderSources}, ignores: map[string]string{
		"pretraining_tp": "for training on several devices only",
	}}
	eurobert = architecture{read: readEurobert, names: decoderNames, prefix: "model.", spellings: []spelling{decoderSources}, ignores: map[string]string{
		"pretraining_tp": "for training on several devices only", "classifier_pooling": ofClassifier, "clf_pooling": ofClassifier,
	}}
)

// llamaConfig has the keys of config.json.
type llamaConfig struct {
	decoderConfig
	ropeKeys
	HeadDim       int64  `json:"head_dim"`
	HiddenAct     string `json:"hidden_act"`
	AttentionBias bool   `json:"attention_bias"`
	MLPBias       bool   `json:"mlp_bias"`
}

func readLlama(k *Keys, c *Config) error {
	var mask maskKeys
	if err := k.Read(&mask); err != nil {
		return err
	}
	err := llamaConfig{
		decoderConfig: decoderConfig{
			VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 32, NumAttentionHeads: 32,
			MaxPositionEmbeddings: 2048, InitializerRange: 0.02, RMSNormEps: 1e-6,
		},
		ropeKeys: ropeKeys{RopeTheta: 10000}, HiddenAct: "silu",
	}.read(k, c)
	c.Blocks.Causal = mask.causal()
	return err
}

func readEurobert(k *Keys, c *Config) error {
	return llamaConfig{
		decoderConfig: decoderConfig{
			VocabSize: 128256, HiddenSize: 768, IntermediateSize: 3072, NumHiddenLayers: 12, NumAttentionHeads: 12,
			MaxPositionEmbeddings: 8192, InitializerRange: 0.02, RMSNormEps: 1e-5, PadTokenID: number(128001),
		},
		ropeKeys: ropeKeys{RopeTheta: 10000}, HiddenAct: "silu",
	}.read(k, c)
}

// read fills a Config from the keys, with x as the defaults.
func (x llamaConfig) read(k *Keys, c *Config) error {
	if err := k.Read(&x); err != nil {
		return err
	}
	*c = x.config()
	c.HiddenAct, c.Blocks.HeadWidth = x.HiddenAct, x.HeadDim
	c.Blocks.QueryKeyValueBias, c.Blocks.AttentionOutputBias = x.AttentionBias, x.AttentionBias
	c.Blocks.UpBias, c.Blocks.DownBias = x.MLPBias, x.MLPBias
	return x.set(c)
}
