package reranker

import (
	"path/filepath"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/modelfolder"
)

// adapter says how the model's adapters are written; nil without LoRA.
func (m *Model) adapter() *modelfolder.Adapter {
	a := modelfolder.EncoderAdapter(m.Encoder)
	if a == nil {
		return nil
	}
	if a.TaskType = hf.CausalLM; m.head.tokens == nil { // a language model's head stays as it is
		a.TaskType, a.Head, a.HeadNames = hf.SequenceClassification, m.head.params(m.Encoder), m.names(m.Encoder.WholeNaming())
	}
	return a
}

// writeClassifierModules writes the files of sentence-transformers by which CrossEncoder finds a classifier's adapter: without config.json in
// the folder it needs modules.json. What a folder of sentence-transformers has of its own is kept.
func (m *Model) writeClassifierModules(dir string) error {
	modules, err := hf.Modules(m.Dir)
	if err != nil {
		return err
	}
	if kind, err := modelcard.Detect(m.Dir); err != nil {
		return err
	} else if kind == modelcard.Reranker && len(modules) > 0 {
		return hf.CopyFile(filepath.Join(m.Dir, hf.ModulesFile), filepath.Join(dir, hf.ModulesFile))
	}
	for name, content := range map[string]any{
		hf.ModulesFile: []map[string]any{{"idx": 0, "name": "0", "path": "", "type": transformerModule}},
		"sentence_bert_config.json": map[string]any{
			"transformer_task": "sequence-classification", "module_output_name": "scores",
			"modality_config": map[string]any{"text": map[string]string{"method": "forward", "method_output_name": "logits"}},
		},
		"config_sentence_transformers.json": map[string]any{
			"model_type": "CrossEncoder", "prompts": map[string]string{}, "default_prompt_name": nil, "activation_fn": "torch.nn.modules.activation.Sigmoid",
		},
	} {
		if err := hf.WriteJSON(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// padNotInBase returns the padding token that the head skips, if config.json, which is the base's, names none.
func (m *Model) padNotInBase() (*int64, error) {
	var base struct {
		Pad *int64 `json:"pad_token_id"`
	}
	if err := m.Encoder.Keys.Read(&base); err != nil || base.Pad != nil || m.head.tokens != nil {
		return nil, err
	}
	return m.head.pad, nil
}
