// Package modelfolder writes the folder of a fine-tuned model: the part that all kinds have in common.
package modelfolder

import (
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// ExportFile is the name of the graph for other runtimes.
const ExportFile = "model.onnx"

// Model is a model with trained parameters.
type Model struct {
	From       string // the base model's folder
	Tokenizer  *tokenizer.Tokenizer
	Card       modelcard.Card
	Formats    prompt.Formats // the prompts around texts
	Layout     *flat.Layout
	Parameters []float32
	// Weights writes the weights of the whole model into dir, and what of its config is not the base model's.
	Weights func(dir string) error
	// Modules writes the other files of the model's kind into dir, such as those of sentence-transformers' modules.
	Modules func(dir string) error
	// Export builds the padded graph of ExportFile.
	Export func(g *onnx.Graph, w encoder.Weights)
	// Adapter is written in place of Weights and Export, if it is not nil.
	Adapter *Adapter
}

// Save writes the folder. It appears only when it is complete.
func (m Model) Save(dir string) error {
	return atomicdir.Write(dir, func(tmp string) error {
		if err := hf.CopyFiles(m.From, tmp); err != nil {
			return err
		}
		if err := m.Tokenizer.Save(tmp); err != nil {
			return err
		}
		if err := m.Modules(tmp); err != nil {
			return err
		}
		if err := m.write(tmp); err != nil {
			return err
		}
		if err := m.Card.SaveFormats(tmp, m.Formats); err != nil {
			return err
		}
		return m.Card.Write(tmp)
	})
}

// write writes the weights: those of the adapter, or of the whole model and its graph for other runtimes.
func (m *Model) write(dir string) error {
	if m.Adapter != nil {
		m.Card.Adapter = m.Adapter.Encoder.AdapterConfig().Describe()
		return m.Adapter.write(dir, m.From, m.Card.BaseModel, m.Layout, m.Parameters)
	}
	if err := m.Weights(dir); err != nil {
		return err
	}
	if err := hf.SetConfigFloat32(dir); err != nil {
		return err
	}
	g := onnx.NewGraph(string(m.Card.Kind))
	m.Export(g, scoring.Constants(g, m.Layout, m.Parameters))
	return g.Save(filepath.Join(dir, ExportFile))
}
