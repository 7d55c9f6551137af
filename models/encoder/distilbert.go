package encoder

import "strings"

// distilbert is BERT without token types, under other names. Source: Sanh et al. 2019, as transformers computes it.
var distilbert = architecture{read: readDistilbert, names: bertNames, prefix: "distilbert.", spellings: []spelling{distilbertSources}, ignores: map[string]string{
	"qa_dropout": "for question answering only", "sinusoidal_pos_embds": "positions are read from the weights", "tie_weights_": "for a language model's head only",
}}

func readDistilbert(k *Keys, c *Config) error {
	d := struct {
		VocabSize    int64   `json:"vocab_size"`
		Dim          int64   `json:"dim"`
		Layers       int     `json:"n_layers"`
		Heads        int64   `json:"n_heads"`
		Hidden       int64   `json:"hidden_dim"`
		Activation   string  `json:"activation"`
		Dropout      float64 `json:"dropout"`
		Attention    float64 `json:"attention_dropout"`
		MaxPositions int64   `json:"max_position_embeddings"`
		Classifier   float64 `json:"seq_classif_dropout"`
		PadTokenID   int64   `json:"pad_token_id"`
		Range        float64 `json:"initializer_range"`
	}{30522, 768, 6, 12, 3072, "gelu", 0.1, 0.1, 512, 0.2, 0, 0.02}
	if err := k.Read(&d); err != nil {
		return err
	}
	*c = Config{
		ModelType: "distilbert", VocabSize: d.VocabSize, EmbeddingSize: d.Dim, HiddenSize: d.Dim, NumHiddenLayers: d.Layers,
		NumAttentionHeads: d.Heads, IntermediateSize: d.Hidden, HiddenAct: d.Activation, HiddenDropout: d.Dropout,
		AttentionDropout: d.Attention, MaxPositionEmbeddings: d.MaxPositions, LayerNormEps: 1e-12,
		PadTokenID: d.PadTokenID, PositionEmbeddingType: "absolute", ClassifierDropout: &d.Classifier,
		InitializerRange: d.Range, Blocks: bertBlocks(),
	}
	c.Blocks.AttentionOutputDropout = false
	return nil
}

// distilbertSources are DistilBERT's names of BERT's tensors.
func distilbertSources(param string) []string {
	out := bertSources(param)
	for i, name := range out {
		out[i] = strings.NewReplacer(
			"encoder.layer.", "transformer.layer.",
			"attention.self.query", "attention.q_lin", "attention.self.key", "attention.k_lin", "attention.self.value", "attention.v_lin",
			"attention.output.dense", "attention.out_lin", "attention.output.LayerNorm", "sa_layer_norm",
			"intermediate.dense", "ffn.lin1", "output.dense", "ffn.lin2", "output.LayerNorm", "output_layer_norm",
		).Replace(name)
	}
	return out
}
