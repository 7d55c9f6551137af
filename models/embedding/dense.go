package embedding

import (
	"fmt"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Dense is a linear layer behind the pooling: sentence-transformers' module Dense.
type Dense struct {
	Path       string // the module's folder; empty if the layer is new
	In, Out    int64
	Bias       bool
	Activation string // a key of hf.Activations
	Seed       uint64 // for the weights of a new layer
}

func (d *Dense) params() []flat.Param {
	return encoder.Linear(denseLayer, d.Out, d.In, d.Bias)
}

// apply maps x [rows, in] to [rows, out].
func (d *Dense) apply(g *onnx.Graph, w encoder.Weights, x *onnx.Value) *onnx.Value {
	defer g.Scope("dense")()
	x = encoder.ApplyLinear(g, w, denseLayer, x, d.Bias)
	switch d.Activation {
	case "Tanh":
		return g.Tanh(x)
	case "ReLU":
		return g.Relu(x)
	}
	return x
}

// addDense reads a Dense module's config.
func (c *Config) addDense(dir, path string, hiddenSize int64) error {
	file := filepath.Join(dir, path, "config.json")
	if c.Dense != nil {
		return fmt.Errorf("%s: a second Dense module is not supported", file)
	}
	d, err := hf.ReadDense(filepath.Join(dir, path), "sentence_embedding", "Tanh")
	switch {
	case err != nil:
		return err
	case d.Residual:
		return fmt.Errorf("%s: use_residual is true, which is not supported", file)
	case hiddenSize != 0 && d.In != hiddenSize:
		return fmt.Errorf("%s: in_features is %d, hidden_size in config.json is %d", file, d.In, hiddenSize)
	}
	c.Dense = &Dense{Path: path, In: d.In, Out: d.Out, Bias: d.Bias, Activation: d.Activation}
	return nil
}

// fill reads the layer's parameters from the module's folder.
func (d *Dense) fill(dir string, to hf.Target) error {
	w, err := hf.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Fill(to, d.params(), func(param string) []string { return []string{strings.TrimPrefix(param, "dense.")} }, nil)
}

// startDense returns the function that fills parameters which the checkpoint lacks: those of a new dense layer. A missing tensor of
// the encoder is an error.
func (m *Model) startDense(w *hf.Weights, prefix string) func(p flat.Param, values []float32) error {
	return func(p flat.Param, values []float32) error {
		if !strings.HasPrefix(p.Name, denseLayer) {
			return fmt.Errorf("%s: no tensor %q", w.Path, m.Encoder.Names(prefix)(p.Name)[0])
		}
		hf.InitUniform(values, m.Config.Dense.Seed, p.Name, m.Config.Dense.In)
		return nil
	}
}

// write writes the module's folder.
func (d *Dense) write(dir string, l *flat.Layout, parameters []float32) error {
	err := hf.WriteJSON(filepath.Join(dir, "config.json"), map[string]any{
		"in_features": d.In, "out_features": d.Out, "bias": d.Bias, "activation_function": hf.Activations[d.Activation],
	})
	if err != nil {
		return err
	}
	return hf.WriteParams(filepath.Join(dir, hf.SafetensorsFile), d.params(), l, parameters, func(name string) string {
		return strings.TrimPrefix(name, "dense.")
	})
}
