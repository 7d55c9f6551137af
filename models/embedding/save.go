package embedding

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Kind is what a saved folder calls this kind of model.
const Kind = "embedding"

// CardFile says what a saved folder is.
const CardFile = "rag_retrieval.json"

// Card is the content of CardFile.
type Card struct {
	Kind          string  `json:"kind"`
	BaseModel     string  `json:"base_model"`
	Pooling       Pooling `json:"pooling"`
	Normalize     bool    `json:"normalize"`
	QueryMaxLen   int     `json:"query_max_len"`
	PassageMaxLen int     `json:"passage_max_len"`
	Temperature   float64 `json:"temperature"`
	Steps         int     `json:"steps"`
	Version       string  `json:"version"`
}

// Save writes the model with these parameters as a folder that sentence-transformers and transformers load, with
// model.onnx for other runtimes beside it. dir appears whole or not at all.
func (m *Model) Save(dir string, card Card, l *flat.Layout, parameters []float32) error {
	card.Kind, card.Pooling, card.Normalize = Kind, m.Config.Pooling, m.Config.Normalize
	return atomicdir.Write(dir, func(tmp string) error {
		if err := hf.CopyFiles(m.Dir, tmp); err != nil {
			return err
		}
		if err := m.writeWeights(filepath.Join(tmp, hf.SafetensorsFile), l, parameters); err != nil {
			return err
		}
		if err := m.writeModules(tmp); err != nil {
			return err
		}
		g := onnx.NewGraph("embedding")
		m.exportGraph(g, constants(g, l, parameters))
		if err := g.Save(filepath.Join(tmp, "model.onnx")); err != nil {
			return err
		}
		return hf.WriteJSON(filepath.Join(tmp, CardFile), card)
	})
}

// writeWeights writes the folder's own tensors with the trained ones in their place: those that were not trained (an
// unused pooler) stay as they are.
func (m *Model) writeWeights(path string, l *flat.Layout, parameters []float32) error {
	w, err := hf.OpenWeights(m.Dir)
	if err != nil {
		return err
	}
	defer w.Close()
	prefix, err := m.Encoder.Prefix(w)
	if err != nil {
		return err
	}
	return hf.WriteWeights(path, w.Metadata, w.Replace(hf.FromLayout(l, parameters, m.Encoder.Names(prefix))))
}

// writeModules writes sentence-transformers' files: they say what LoadConfig found, and the normalisation that this
// package always does.
func (m *Model) writeModules(dir string) error {
	modules := []map[string]any{
		{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
		{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
		{"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
	}
	if err := os.Mkdir(filepath.Join(dir, "1_Pooling"), 0o755); err != nil {
		return err
	}
	files := map[string]any{
		"modules.json": modules,
		filepath.Join("1_Pooling", "config.json"): map[string]any{
			"word_embedding_dimension":          m.Encoder.HiddenSize,
			"pooling_mode_cls_token":            m.Config.Pooling == CLS,
			"pooling_mode_mean_tokens":          m.Config.Pooling == Mean,
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

// ReadCard reads what a folder says of itself; ok is false for folders that this project did not save.
func ReadCard(dir string) (card Card, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, CardFile))
	if err != nil {
		if os.IsNotExist(err) {
			return card, false, nil
		}
		return card, false, err
	}
	if err := json.Unmarshal(b, &card); err != nil {
		return card, false, fmt.Errorf("%s: %w", filepath.Join(dir, CardFile), err)
	}
	return card, true, nil
}
