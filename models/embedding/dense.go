package embedding

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Dense is a linear layer behind the pooling: sentence-transformers' module Dense.
type Dense struct {
	// Number counts the modules from 0.
	Number     int
	Path       string // the module's folder; empty if the layer is new
	In, Out    int64
	Bias       bool
	Activation string // a key of hf.Activations
	Seed       uint64 // for the weights of a new layer
}

// name stands before the names of the layer's parameters.
func (d *Dense) name() string {
	if d.Number == 0 {
		return "dense"
	}
	return fmt.Sprint("dense", d.Number+1)
}

func (d *Dense) params() []flat.Param {
	return encoder.Linear(d.name()+".linear", d.Out, d.In, d.Bias)
}

// tensor is a parameter's name in the module's own file.
func (d *Dense) tensor(param string) string { return strings.TrimPrefix(param, d.name()+".") }

// apply maps x [rows, in] to [rows, out].
func (d *Dense) apply(g *onnx.Graph, w encoder.Weights, x *onnx.Value) *onnx.Value {
	defer g.Scope(d.name())()
	x = encoder.ApplyLinear(g, w, d.name()+".linear", x, d.Bias)
	switch d.Activation {
	case "Tanh":
		return g.Tanh(x)
	case "ReLU":
		return g.Relu(x)
	}
	return x
}

// addDense reads a Dense module's config. width is what the modules before it give, or 0 if that is not known.
func (c *Config) addDense(dir, path string, width int64) error {
	file := filepath.Join(dir, path, "config.json")
	before := "hidden_size in config.json"
	if n := len(c.Dense); n > 0 {
		width, before = c.Dense[n-1].Out, "out_features of the module before"
	}
	d, err := hf.ReadDense(filepath.Join(dir, path), "sentence_embedding", "Tanh")
	switch {
	case err != nil:
		return err
	case d.Residual:
		return fmt.Errorf("%s: use_residual is true, which is not supported", file)
	case width != 0 && d.In != width:
		return fmt.Errorf("%s: in_features is %d, %s is %d", file, d.In, before, width)
	}
	c.Dense = append(c.Dense, &Dense{Number: len(c.Dense), Path: path, In: d.In, Out: d.Out, Bias: d.Bias, Activation: d.Activation})
	return nil
}

// fill reads the layer's parameters from the module's folder.
func (d *Dense) fill(dir string, to hf.Target) error {
	w, err := hf.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Fill(to, d.params(), func(param string) []string { return []string{d.tensor(param)} }, nil)
}

// startDense returns the function that fills parameters which the checkpoint lacks: adapters and those of a new dense layer. A missing tensor of
// the encoder is an error.
func (m *Model) startDense(w *hf.Weights, naming encoder.Naming) func(p flat.Param, values []float32) error {
	return func(p flat.Param, values []float32) error {
		if m.Encoder.StartAdapter(p, values) {
			return nil
		}
		fresh := slices.IndexFunc(m.Config.Dense, func(d *Dense) bool { return strings.HasPrefix(p.Name, d.name()+".linear.") })
		if fresh < 0 {
			return fmt.Errorf("%s: no tensor %q", w.Path, naming.Tensors(p.Name)[0])
		}
		d := m.Config.Dense[fresh]
		hf.InitUniform(values, d.Seed, p.Name, d.In)
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
	return hf.WriteParams(filepath.Join(dir, hf.SafetensorsFile), d.params(), l, parameters, d.tensor)
}
