package encoder

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// WeightsFile is the file that a Hugging Face folder keeps its weights in.
const WeightsFile = "model.safetensors"

// Sources are the tensors of a Hugging Face checkpoint that make up one parameter, laid end to end.
func Sources(param string) []string {
	before, after, fused := strings.Cut(param, ".self.qkv.")
	if !fused {
		return []string{param}
	}
	var out []string
	for _, part := range []string{"query", "key", "value"} {
		out = append(out, before+".self."+part+"."+after)
	}
	return out
}

// prefixes are what checkpoints of whole models put before the encoder's own names.
var prefixes = []string{"", "bert.", "model.", "0.auto_model."}

// openWeights opens a folder's weights and tells which prefix they use.
func openWeights(dir string) (*safetensors.File, string, error) {
	f, err := safetensors.Open(filepath.Join(dir, WeightsFile))
	if err != nil {
		return nil, "", fmt.Errorf("reading the model: %w", err)
	}
	for _, p := range prefixes {
		if _, ok := f.Tensor(p + "embeddings.word_embeddings.weight"); ok {
			return f, p, nil
		}
	}
	err = fmt.Errorf("%s: no tensor \"embeddings.word_embeddings.weight\": not the weights of a BERT encoder", f.Path)
	return nil, "", errors.Join(err, f.Close())
}

// ReadWeights fills the parameters of a flat buffer from a Hugging Face folder. Parameters that the folder lacks,
// or has in another shape or with a number that is not finite, are errors that name them.
func ReadWeights(dir string, l *flat.Layout, buffer []float32) error {
	f, prefix, err := openWeights(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.Each(buffer, func(p flat.Param, values []float32) error {
		parts := Sources(p.Name)
		want := append([]int64{}, p.Dims...)
		want[0] /= int64(len(parts))
		share := len(values) / len(parts)
		for i, name := range parts {
			if err := readTensor(f, prefix+name, want, values[i*share:(i+1)*share]); err != nil {
				return err
			}
		}
		return nil
	})
}

func readTensor(f *safetensors.File, name string, want []int64, into []float32) error {
	t, ok := f.Tensor(name)
	if !ok {
		return fmt.Errorf("%s: no tensor %q", f.Path, name)
	}
	if fmt.Sprint(t.Shape) != fmt.Sprint(want) {
		return fmt.Errorf("%s: tensor %q has the shape %v, config.json says %v", f.Path, name, t.Shape, want)
	}
	values, err := f.Float32(name)
	if err != nil {
		return err
	}
	for i, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("%s: tensor %q: element %d is %g", f.Path, name, i, v)
		}
	}
	copy(into, values)
	return nil
}

// WriteWeights writes the weights of the folder from again to path, with the parameters of a flat buffer in place of
// its own. Tensors that are not among them (an unused pooler) stay as they are.
func WriteWeights(path, from string, l *flat.Layout, buffer []float32) error {
	f, prefix, err := openWeights(from)
	if err != nil {
		return err
	}
	defer f.Close()
	trained := map[string][]float32{}
	if err := l.Each(buffer, func(p flat.Param, values []float32) error {
		parts := Sources(p.Name)
		share := len(values) / len(parts)
		for i, name := range parts {
			trained[prefix+name] = values[i*share : (i+1)*share]
		}
		return nil
	}); err != nil {
		return err
	}
	out := make([]safetensors.Tensor, len(f.Tensors))
	for i, t := range f.Tensors {
		out[i] = t
		if values, ok := trained[t.Name]; ok {
			out[i] = safetensors.FromFloat32(t.Name, values, t.Shape...)
		}
	}
	meta := map[string]string{"format": "pt"} // transformers asks for it
	for k, v := range f.Metadata {
		meta[k] = v
	}
	return safetensors.Write(path, meta, out)
}
