package hf

import (
	"slices"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// WriteWeights writes a safetensors file that transformers can load.
func WriteWeights(path string, metadata map[string]string, tensors []safetensors.Tensor) error {
	meta := map[string]string{"format": "pt"} // transformers needs it
	for k, v := range metadata {
		meta[k] = v
	}
	return safetensors.Write(path, meta, tensors)
}

// FromLayout returns some parameters of a flat buffer as tensors of a checkpoint. They share the buffer's memory.
func FromLayout(l *flat.Layout, buffer []float32, params []flat.Param, names TensorNames) ([]safetensors.Tensor, error) {
	var out []safetensors.Tensor
	for _, p := range params {
		values, err := l.View(buffer, p.Name)
		if err != nil {
			return nil, err
		}
		parts := names(p.Name)
		dims := slices.Clone(p.Dims)
		dims[0] /= int64(len(parts))
		share := len(values) / len(parts)
		for i, name := range parts {
			out = append(out, safetensors.FromFloat32(name, values[i*share:(i+1)*share], dims...))
		}
	}
	return out, nil
}

// WriteParams writes some parameters of a flat buffer to a file. name returns a tensor's name for a parameter's name.
func WriteParams(path string, params []flat.Param, l *flat.Layout, buffer []float32, name func(string) string) error {
	var out []safetensors.Tensor
	for _, p := range params {
		values, err := l.View(buffer, p.Name)
		if err != nil {
			return err
		}
		out = append(out, safetensors.FromFloat32(name(p.Name), values, p.Dims...))
	}
	return WriteWeights(path, nil, out)
}
