package embedding

import (
	"fmt"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Model is an embedding model's folder, opened: its configs and tokenizer, not its weights.
type Model struct {
	Dir       string
	Encoder   encoder.Config
	Config    Config
	Tokenizer *tokenizer.Tokenizer
}

// Open reads a model folder.
func Open(dir string) (*Model, error) {
	enc, err := encoder.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	c, err := LoadConfig(dir, enc)
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Model{dir, enc, c, t}, nil
}

// Close frees the tokenizer.
func (m *Model) Close() error { return m.Tokenizer.Close() }

// Shape are the limits of the batches that a training graph is built for.
type Shape struct {
	Rows      int // queries and passages of a micro-batch
	MaxLength int // tokens of the longest
	Groups    int // attention groups
	// Recompute says that attention is computed again in the backward pass, see encoder.Training.
	Recompute bool
}

// Trainable describes the model to the trainer, with the InfoNCE loss at a temperature.
func (m *Model) Trainable(s Shape, temperature float64) artifact.Model {
	bounds := map[string]int64{}
	m.Encoder.Bounds(bounds, s.Rows, s.MaxLength, s.Groups)
	return artifact.Model{
		Name: "embedding", Params: m.Encoder.Params(), Bounds: bounds,
		Loss: func(g *onnx.Graph, param func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			l := encoder.NewPackedLayout(g, m.Encoder, s.Groups)
			hidden := m.Encoder.Build(g, param, l, encoder.Training{
				Dropout: drop, RecomputeAttention: s.Recompute,
			})
			q, p := m.Config.pool(g, hidden, queryRows), m.Config.pool(g, hidden, passageRows)
			return infoNCE(g, q, p, temperature)
		},
	}
}

// constants makes the parameters of a flat buffer constants of a graph. They share the buffer's memory, which must
// stay until the graph is written.
func constants(g *onnx.Graph, l *flat.Layout, buffer []float32) encoder.Weights {
	return func(name string) *onnx.Value {
		values, err := l.View(buffer, name)
		if err != nil {
			g.Fail("%w", err)
		}
		raw := safetensors.FromFloat32(name, values, l.Dims(name)...)
		return g.Weight(name, &onnx.Tensor{DType: onnx.Float32, Dims: raw.Shape, Raw: raw.Data})
	}
}

// checkLengths says whether texts of n tokens fit the model.
func (m *Model) checkLengths(key string, n int) error {
	low, high := m.Tokenizer.Specials()+1, m.Encoder.MaxLength()
	if n < low || n > high {
		return fmt.Errorf("%s is %d, want %d to %d for the model %s", key, n, low, high, m.Dir)
	}
	return nil
}
