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
	// Write writes the weights and the files of the model's kind into dir.
	Write func(dir string) error
	// Export builds the padded graph of ExportFile.
	Export func(g *onnx.Graph, w encoder.Weights)
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
		if err := m.Write(tmp); err != nil {
			return err
		}
		if err := hf.SetConfigFloat32(tmp); err != nil {
			return err
		}
		g := onnx.NewGraph(string(m.Card.Kind))
		m.Export(g, scoring.Constants(g, m.Layout, m.Parameters))
		if err := g.Save(filepath.Join(tmp, ExportFile)); err != nil {
			return err
		}
		if err := m.Card.SaveFormats(tmp, m.Formats); err != nil {
			return err
		}
		return m.Card.Write(tmp)
	})
}
