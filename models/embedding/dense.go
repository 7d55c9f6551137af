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

// Dense is a linear layer on pooled vectors, as sentence-transformers' module of that name.
type Dense struct {
	Path       string // the module's folder; empty: the layer is new
	In, Out    int64
	Bias       bool
	Activation string // "Identity" or "Tanh"
	Seed       uint64 // of a new layer
}

func (d *Dense) params() []flat.Param {
	p := encoder.Linear(denseLayer, d.Out, d.In)
	if !d.Bias {
		p = p[:1]
	}
	return p
}

// apply gives [rows, out] of [rows, in].
func (d *Dense) apply(g *onnx.Graph, w encoder.Weights, x *onnx.Value) *onnx.Value {
	defer g.Scope("dense")()
	var bias *onnx.Value
	if d.Bias {
		bias = w(denseLayer + ".bias")
	}
	x = g.Gemm(x, w(denseLayer+".weight"), bias, onnx.GemmAttrs{TransB: true})
	if d.Activation == "Tanh" {
		x = g.Tanh(x)
	}
	return x
}

// readDense reads a Dense module's config.
func readDense(dir, path string) (*Dense, error) {
	file := filepath.Join(dir, path, "config.json")
	c := struct {
		In         int64  `json:"in_features"`
		Out        int64  `json:"out_features"`
		Bias       *bool  `json:"bias"`
		Activation string `json:"activation_function"`
	}{Activation: "torch.nn.modules.activation.Tanh"}
	if err := hf.ReadJSON(file, &c); err != nil {
		return nil, err
	}
	d := &Dense{Path: path, In: c.In, Out: c.Out, Bias: c.Bias == nil || *c.Bias, Activation: c.Activation[strings.LastIndex(c.Activation, ".")+1:]}
	switch {
	case d.In <= 0 || d.Out <= 0:
		return nil, fmt.Errorf("%s: in_features %d and out_features %d, want positive numbers", file, d.In, d.Out)
	case d.Activation != "Identity" && d.Activation != "Tanh":
		return nil, fmt.Errorf("%s: activation_function is %q, want Identity or Tanh", file, c.Activation)
	}
	return d, nil
}

// fill hands over the layer's parameters from the module's own weights.
func (d *Dense) fill(dir string, to hf.Target) error {
	w, err := hf.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Fill(to, d.params(), func(param string) []string { return []string{strings.TrimPrefix(param, "dense.")} }, nil)
}

// startDense gives what fills the parameters that the encoder's weights do not have. An encoder's own tensor that is
// missing is an error, as ever.
func (m *Model) startDense(w *hf.Weights, prefix string) func(p flat.Param, values []float32) error {
	return func(p flat.Param, values []float32) error {
		if !strings.HasPrefix(p.Name, denseLayer) {
			return fmt.Errorf("%s: no tensor %q", w.Path, m.Encoder.Names(prefix)(p.Name)[0])
		}
		hf.Uniform(values, m.Config.Dense.Seed, p.Name, m.Config.Dense.In)
		return nil
	}
}

// write writes the module's folder.
func (d *Dense) write(dir string, l *flat.Layout, parameters []float32) error {
	err := hf.WriteJSON(filepath.Join(dir, "config.json"), map[string]any{
		"in_features": d.In, "out_features": d.Out, "bias": d.Bias, "activation_function": map[string]string{
			"Identity": "torch.nn.modules.linear.Identity", "Tanh": "torch.nn.modules.activation.Tanh"}[d.Activation],
	})
	if err != nil {
		return err
	}
	return hf.WriteParams(filepath.Join(dir, hf.SafetensorsFile), d.params(), l, parameters, func(name string) string {
		return strings.TrimPrefix(name, "dense.")
	})
}
