// Package modelfolder writes a fine-tuned model's folder: what every kind has in common.
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

// ExportFile is the graph for other runtimes.
const ExportFile = "model.onnx"

// Model is a model with trained parameters, to be saved.
type Model struct {
	From       string // the base model's folder
	Tokenizer  *tokenizer.Tokenizer
	Card       modelcard.Card
	Formats    prompt.Formats // what stands around texts
	Layout     *flat.Layout
	Parameters []float32
	// Write adds the weights and the files that make the folder one of its kind.
	Write func(dir string) error
	// Export builds the padded graph of ExportFile.
	Export func(g *onnx.Graph, w encoder.Weights)
}

// Save writes the folder; it appears whole or not at all.
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
