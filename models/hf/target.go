package hf

import (
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// Target receives the parameters of a model's folder. Training uses a Buffer; scoring makes them constants of a graph.
type Target interface {
	// Take receives a parameter as tensors of a file, to be joined along the first axis. Their data are valid until Take
	// returns. A number that is not finite is an error.
	Take(p flat.Param, parts []safetensors.Tensor) error
	// Values returns the memory of a parameter that no file has: p.Size() zeros, which the caller fills.
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

// Read fills values with the elements of the tensors, one after the other. All must be finite.
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
