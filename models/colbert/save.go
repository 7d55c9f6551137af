package colbert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/modelfolder"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Save writes the model with these parameters as a folder that sentence-transformers' MultiVectorEncoder loads with the
// same scores, with model.onnx for other runtimes. The folder appears only when it is complete. With LoRA it is a PEFT folder,
// which names the base model, and has no model.onnx.
func (m *Model) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Kind, c.Dim = modelcard.ColBERT, m.Dim
	return modelfolder.Model{
		From: m.Dir, Tokenizer: m.Tokenizer, Card: c, Formats: m.Formats, Layout: l, Parameters: parameters, Export: m.exportGraph,
		Weights: func(tmp string) error {
			return m.Encoder.WriteWeights(filepath.Join(tmp, hf.SafetensorsFile), m.Dir, l, parameters)
		},
		Adapter: modelfolder.EncoderAdapter(m.Encoder),
		Modules: func(tmp string) error {
			if m.modules != nil {
				return m.keepModules(tmp, c, l, parameters)
			}
			return m.writeModules(tmp, c, l, parameters)
		},
	}.Save(dir)
}

// keepModules copies the modules of the base model's folder, with the trained weights and the lengths of the run.
func (m *Model) keepModules(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	if err := hf.CopyFile(filepath.Join(m.Dir, hf.ModulesFile), filepath.Join(dir, hf.ModulesFile)); err != nil {
		return err
	}
	for _, module := range m.modules {
		if module.Path == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, module.Path), 0o755); err != nil {
			return err
		}
		config := filepath.Join(module.Path, "config.json")
		if err := hf.CopyFile(filepath.Join(m.Dir, config), filepath.Join(dir, config)); err != nil {
			return err
		}
	}
	for _, x := range m.layers {
		if err := x.write(filepath.Join(dir, x.path), l, parameters); err != nil {
			return err
		}
	}
	if m.pylate {
		return m.update(dir, "config_sentence_transformers.json", func(config map[string]any) {
			config["query_length"], config["document_length"] = c.QueryMaxLen, c.PassageMaxLen
		})
	}
	return m.update(dir, "sentence_bert_config.json", func(config map[string]any) {
		config["document_length"] = c.PassageMaxLen
		if expansion, ok := config["query_expansion"].(map[string]any); ok && m.Rules.Fixed {
			expansion["length"] = c.QueryMaxLen
			delete(config, "query_length")
		} else {
			config["query_length"] = c.QueryMaxLen
		}
	})
}

// update writes a changed copy of a JSON file of the base model's folder.
func (m *Model) update(dir, name string, change func(config map[string]any)) error {
	config := map[string]any{}
	if err := hf.ReadJSON(filepath.Join(m.Dir, name), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	change(config)
	return hf.WriteJSON(filepath.Join(dir, name), config)
}

// writeModules writes sentence-transformers' files.
func (m *Model) writeModules(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	const base, multi = "sentence_transformers.base.modules.", "sentence_transformers.multi_vector_encoder.modules."
	tokens := map[string]any{"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
	dense := map[string]any{
		"in_features": m.Encoder.HiddenSize, "out_features": m.Dim, "bias": m.layers[0].Bias,
		"activation_function": "torch.nn.modules.linear.Identity",
		"module_input_name":   "token_embeddings", "module_output_name": "token_embeddings",
	}
	skipped := []string{}
	if first, _, ok := m.Tokenizer.First(); ok && !m.Rules.KeepFirst {
		skipped = append(skipped, first)
	}
	mask := map[string]any{"skiplist_words": skipped, "skiplist_tasks": []string{"query", "document"}, "keep_only_token_ids": nil}
	var modules []map[string]any
	for i, x := range []struct {
		name, module string
		config       map[string]any
	}{
		{"", base + "transformer.Transformer", nil}, {"1_Dense", base + "dense.Dense", dense},
		{"2_MultiVectorMask", multi + "multi_vector_mask.MultiVectorMask", mask}, {"3_Normalize", base + "normalize.Normalize", tokens},
	} {
		modules = append(modules, map[string]any{"idx": i, "name": fmt.Sprint(i), "path": x.name, "type": x.module})
		if x.config == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, x.name), 0o755); err != nil {
			return err
		}
		if err := hf.WriteJSON(filepath.Join(dir, x.name, "config.json"), x.config); err != nil {
			return err
		}
	}
	if err := m.layers[0].write(filepath.Join(dir, "1_Dense"), l, parameters); err != nil {
		return err
	}
	for name, content := range map[string]any{
		"modules.json": modules,
		"config_sentence_transformers.json": map[string]any{
			"model_type": "MultiVectorEncoder", "similarity_fn_name": "meanmaxsim", "default_prompt_name": nil,
			"prompts": map[string]string{"query": "", "document": ""},
		},
		"sentence_bert_config.json": map[string]any{
			"transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
			"query_length": c.QueryMaxLen, "document_length": c.PassageMaxLen,
			"modality_config": map[string]any{"text": map[string]string{"method": "forward", "method_output_name": "last_hidden_state"}},
		},
	} {
		if err := hf.WriteJSON(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// exportGraph builds the padded graph for other runtimes. Inputs are input_ids, attention_mask and token_type_ids
// [batch, sequence]. The output token_embeddings [batch, sequence, dim] has vectors of length one for all tokens, [CLS] and padding
// included.
func (m *Model) exportGraph(g *onnx.Graph, w encoder.Weights) {
	batch := encoder.NewPadded(g, m.Encoder)
	x := m.project(g, w, m.Encoder.Build(g, w, batch, encoder.Training{}, nil))
	g.Output("token_embeddings", batch.Unpack(x, m.Dim))
}
