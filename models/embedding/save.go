package embedding

import (
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/modelfolder"
	"rag-retrieval-go/ortrain/flat"
)

// Save writes the model with these parameters as a folder that sentence-transformers and transformers load, with model.onnx for
// other runtimes. The folder appears only when it is complete. With LoRA it is a PEFT folder, which names the base model, and has no
// model.onnx.
func (m *Model) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Kind, c.Pooling, c.Normalize = modelcard.Embedding, string(m.Config.Pooling), m.Config.Normalize
	return modelfolder.Model{
		From: m.Dir, Tokenizer: m.Tokenizer, Card: c, Formats: m.Config.Formats, Layout: l, Parameters: parameters, Export: m.exportGraph,
		Weights: func(tmp string) error {
			return m.Encoder.WriteWeights(filepath.Join(tmp, hf.SafetensorsFile), m.Dir, l, parameters)
		},
		Modules: func(tmp string) error { return m.writeModules(tmp, l, parameters) },
		Adapter: modelfolder.EncoderAdapter(m.Encoder),
	}.Save(dir)
}

// writeModules writes sentence-transformers' files: the settings that LoadConfig read, and a module Normalize, since this package
// always normalizes.
func (m *Model) writeModules(dir string, l *flat.Layout, parameters []float32) error {
	const types = "sentence_transformers.models."
	folders := []string{"", "1_Pooling"}
	names := []string{"Transformer", "Pooling"}
	for range m.Config.Dense {
		folders, names = append(folders, fmt.Sprintf("%d_Dense", len(names))), append(names, "Dense")
	}
	folders, names = append(folders, fmt.Sprintf("%d_Normalize", len(names))), append(names, "Normalize")
	var modules []map[string]any
	for i, folder := range folders {
		modules = append(modules, map[string]any{"idx": i, "name": fmt.Sprint(i), "path": folder, "type": types + names[i]})
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return err
		}
	}
	for i, d := range m.Config.Dense {
		if err := d.write(filepath.Join(dir, folders[2+i]), l, parameters); err != nil {
			return err
		}
	}
	files := map[string]any{
		"modules.json": modules,
		filepath.Join("1_Pooling", "config.json"): map[string]any{
			"word_embedding_dimension":          m.Encoder.HiddenSize,
			"pooling_mode_cls_token":            m.Config.Pooling == CLS,
			"pooling_mode_mean_tokens":          m.Config.Pooling == Mean,
			"pooling_mode_lasttoken":            m.Config.Pooling == Last,
			"pooling_mode_max_tokens":           false,
			"pooling_mode_mean_sqrt_len_tokens": false,
		},
	}
	if _, err := os.Stat(filepath.Join(dir, "sentence_bert_config.json")); os.IsNotExist(err) {
		files["sentence_bert_config.json"] = map[string]any{"max_seq_length": m.Config.MaxSeqLength, "do_lower_case": false}
	}
	for name, content := range files {
		if err := hf.WriteJSON(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}
