package reranker

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/modelfolder"
	"rag-retrieval-go/ortrain/flat"
)

// Save writes the model with these parameters as a folder that transformers' AutoModelForSequenceClassification and
// sentence-transformers' CrossEncoder load, with model.onnx for other runtimes. The folder appears only when it is complete. With LoRA it is a PEFT folder,
// which names the base model, and has no model.onnx.
func (m *Model) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	var err error
	if c.Kind = modelcard.Reranker; m.Encoder.LoRA != nil {
		if c.PadTokenID, err = m.padNotInBase(); err != nil {
			return err
		}
	}
	return modelfolder.Model{
		From: m.Dir, Tokenizer: m.Tokenizer, Card: c, Formats: m.Formats, Layout: l, Parameters: parameters, Export: m.exportGraph,
		Adapter: m.adapter(),
		Modules: func(tmp string) error {
			if m.head.tokens != nil {
				if err := writeLogitScore(tmp, m.head.tokens); err != nil {
					return err
				}
			} else if m.Encoder.LoRA != nil {
				if err := m.writeClassifierModules(tmp); err != nil {
					return err
				}
			}
			if m.Formats.Joined() {
				return padWithEnd(tmp)
			}
			return nil
		},
		Weights: func(tmp string) error {
			if err := m.writeConfig(tmp); err != nil {
				return err
			}
			naming, err := m.naming()
			if err != nil {
				return err
			}
			tensors, err := hf.FromLayout(l, parameters, m.Params(), m.names(naming))
			if err != nil {
				return err
			}
			if m.head.untied {
				if tensors, err = m.withHead(tensors); err != nil {
					return err
				}
			}
			return hf.WriteWeights(filepath.Join(tmp, hf.SafetensorsFile), nil, tensors)
		},
	}.Save(dir)
}

// naming is how the folder that the model comes from names its tensors, since config.json is kept and says which code reads them. The
// prefix is that of a whole model.
func (m *Model) naming() (encoder.Naming, error) {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return encoder.Naming{}, err
	}
	defer w.Close()
	naming, err := m.Encoder.Naming(w)
	naming.Prefix = m.Encoder.Prefix
	return naming, err
}

// padWithEnd makes the end of a text the padding token, as config.json has it then: see setFormats.
func padWithEnd(dir string) error {
	path, c := filepath.Join(dir, "tokenizer_config.json"), map[string]json.RawMessage{}
	if err := hf.ReadJSON(path, &c); errors.Is(err, fs.ErrNotExist) || err == nil && c[endOfText] == nil {
		return nil
	} else if err != nil {
		return err
	}
	c["pad_token"], c["padding_side"] = c[endOfText], json.RawMessage(`"right"`)
	return hf.WriteJSON(path, c)
}

// writeConfig writes config.json, with one label where the head has labels. What it does not change stays as it is written:
// transformers refuses a 2 where it wrote 2.0.
func (m *Model) writeConfig(dir string) error {
	config := map[string]json.RawMessage{}
	if err := hf.ReadJSON(filepath.Join(m.Dir, "config.json"), &config); err != nil {
		return err
	}
	changes := map[string]any{"architectures": []string{m.head.class}}
	if m.head.pad != nil {
		changes["pad_token_id"] = *m.head.pad
	}
	if m.head.tokens == nil {
		changes["id2label"], changes["label2id"] = map[string]string{"0": "LABEL_0"}, map[string]int{"LABEL_0": 0}
	}
	for key, value := range changes {
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		config[key] = raw
	}
	return hf.WriteJSON(filepath.Join(dir, "config.json"), config)
}
