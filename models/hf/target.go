package hf

import (
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// Target receives a model's parameters from its folder: a Buffer to train them, or what makes them constants of a graph.
type Target interface {
	// Take receives a parameter as tensors of a file, laid end to end along the first axis. Their data are valid until it
	// returns; a number that is not finite is an error.
	Take(p flat.Param, parts []safetensors.Tensor) error
	// Values gives the memory of a parameter that no file has, [p.Size()] zeros, for the caller to fill.
	Values(p flat.Param) ([]float32, error)
}

// Buffer is the Target that reads every parameter into a flat buffer.
type Buffer struct {
	Layout *flat.Layout
	Data   []float32
}

// Take implements Target.
func (b Buffer) Take(p flat.Param, parts []safetensors.Tensor) error {
	values, err := b.Values(p)
	if err != nil {
		return err
	}
	return Read(values, parts)
}

// Values implements Target.
func (b Buffer) Values(p flat.Param) ([]float32, error) { return b.Layout.View(b.Data, p.Name) }

// Read fills values with the elements of tensors, laid end to end, which must be finite.
func Read(values []float32, parts []safetensors.Tensor) error {
	share := len(values) / len(parts)
	for i, t := range parts {
		if err := t.Read(values[i*share : (i+1)*share]); err != nil {
			return err
		}
		if err := safetensors.FromFloat32(t.Name, values[i*share:(i+1)*share]).Finite(); err != nil {
			return err
		}
	}
	return nil
}
