package reranker

import (
	"path/filepath"

	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/saving"
	"rag-retrieval-go/ortrain/flat"
)

// Save writes the model with these parameters as a folder that transformers' AutoModelForSequenceClassification and
// sentence-transformers' CrossEncoder load, with model.onnx for other runtimes beside it. dir appears whole or not at
// all.
func (m *Model) Save(dir string, c card.Card, l *flat.Layout, parameters []float32) error {
	c.Kind = card.Reranker
	return saving.Model{
		From: m.Dir, Tokenizer: m.Tokenizer, Card: c, Formats: m.Formats, Layout: l, Parameters: parameters, Export: m.exportGraph,
		Write: func(tmp string) error {
			if err := m.writeConfig(tmp); err != nil {
				return err
			}
			if m.head.tokens != nil {
				if err := writeLogitScore(tmp, m.head.tokens); err != nil {
					return err
				}
			}
			tensors, err := hf.FromLayout(l, parameters, m.Params(), m.names(m.Encoder.ModelPrefix()))
			if err != nil {
				return err
			}
			return hf.WriteWeights(filepath.Join(tmp, hf.SafetensorsFile), nil, tensors)
		},
	}.Save(dir)
}

// writeConfig writes config.json, with one label where the head has labels.
func (m *Model) writeConfig(dir string) error {
	config := map[string]any{}
	if err := hf.ReadJSON(filepath.Join(m.Dir, "config.json"), &config); err != nil {
		return err
	}
	config["architectures"] = []string{m.head.class}
	if m.head.pad != nil {
		config["pad_token_id"] = *m.head.pad
	}
	if m.head.tokens != nil {
		return hf.WriteJSON(filepath.Join(dir, "config.json"), config)
	}
	config["id2label"] = map[string]string{"0": "LABEL_0"}
	config["label2id"] = map[string]int{"LABEL_0": 0}
	return hf.WriteJSON(filepath.Join(dir, "config.json"), config)
}
