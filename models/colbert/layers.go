package colbert

import (
	"fmt"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// layer is one linear layer of the projection: a Dense module, or the only layer of a RAG-Retrieval model.
type layer struct {
	hf.Dense
	name string // the prefix of its parameters
	file string // the file with its weights; empty if the layer is new
	path string // the folder of the Dense module; empty if it is none
}

// newLayer makes a projection as RAG-Retrieval's, with random weights.
func newLayer(in, out int64) layer {
	return layer{Dense: hf.Dense{In: in, Out: out, Bias: true, Activation: "Identity"}, name: linear}
}

// shortcut reports whether the residual connection has a linear layer of its own.
func (x layer) shortcut() bool { return x.Residual && x.In != x.Out }

func (x layer) params() []flat.Param {
	p := encoder.Linear(x.name, x.Out, x.In, x.Bias)
	if x.shortcut() {
		p = append(p, encoder.Linear(x.name+".residual", x.Out, x.In, false)...)
	}
	return p
}

// apply maps v [tokens, in] to [tokens, out]: activation(v·W + b), plus the residual connection where the module has one.
func (x layer) apply(g *onnx.Graph, w encoder.Weights, v *onnx.Value) *onnx.Value {
	defer g.Scope(x.name)()
	out := encoder.ApplyLinear(g, w, x.name, v, x.Bias)
	switch x.Activation {
	case "Tanh":
		out = g.Tanh(out)
	case "ReLU":
		out = g.Relu(out)
	}
	if x.shortcut() {
		v = encoder.ApplyLinear(g, w, x.name+".residual", v, false)
	}
	if x.Residual {
		out = g.Add(out, v)
	}
	return out
}

// source returns the name that a parameter's tensor has in the layer's file.
func (x layer) source(w *hf.Weights, param string) string {
	rest := strings.TrimPrefix(param, x.name+".")
	if strings.HasPrefix(rest, "residual.") {
		return rest
	}
	return projectionPrefix(w) + rest
}

// projectionPrefix returns the prefix of the tensor "weight" in the projection's file.
func projectionPrefix(w *hf.Weights) string {
	for _, p := range []string{"linear.", linear + "."} {
		if w.Has(p + "weight") {
			return p
		}
	}
	return ""
}

// open checks that the layer's weights match its config.
func (x layer) open() error {
	w, err := hf.OpenFile(x.file)
	if err != nil {
		return err
	}
	defer w.Close()
	known := map[string]bool{}
	for _, p := range x.params() {
		name := x.source(w, p.Name)
		known[name] = true
		if t, ok := w.Tensor(name); !ok {
			return fmt.Errorf("%s: no tensor %q", x.file, name)
		} else if fmt.Sprint(t.Shape) != fmt.Sprint(p.Dims) {
			return fmt.Errorf("%s: the tensor %q has the shape %v, want %v", x.file, name, t.Shape, p.Dims)
		}
	}
	for _, name := range []string{projectionPrefix(w) + "bias", "residual.weight"} {
		if w.Has(name) && !known[name] {
			return fmt.Errorf("%s: the tensor %q is there, but the config does not speak of it", x.file, name)
		}
	}
	return nil
}

// fill reads the layer's parameters from its file.
func (x layer) fill(to hf.Target) error {
	w, err := hf.OpenFile(x.file)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Fill(to, x.params(), func(param string) []string { return []string{x.source(w, param)} }, nil)
}

// write writes the weights of a Dense module.
func (x layer) write(dir string, l *flat.Layout, parameters []float32) error {
	return hf.WriteParams(filepath.Join(dir, hf.SafetensorsFile), x.params(), l, parameters, func(name string) string {
		rest := strings.TrimPrefix(name, x.name+".")
		if strings.HasPrefix(rest, "residual.") {
			return rest
		}
		return "linear." + rest
	})
}

// findLayers finds the layers of the projection: the Dense modules of a ColBERT folder, or the file colbert_linear. Folders of base
// models have none.
func (m *Model) findLayers() error {
	if m.modules != nil {
		return m.denseLayers()
	}
	for _, name := range []string{linear + ".safetensors", linear + ".pt"} {
		path := filepath.Join(m.Dir, name)
		if there, err := hf.Exists(path); err != nil {
			return err
		} else if there {
			return m.linearLayer(path)
		}
	}
	return nil
}

// linearLayer reads RAG-Retrieval's projection. Its width is known only from the file.
func (m *Model) linearLayer(path string) error {
	w, err := hf.OpenFile(path)
	if err != nil {
		return err
	}
	defer w.Close()
	t, ok := w.Tensor(projectionPrefix(w) + "weight")
	if !ok || len(t.Shape) != 2 || t.Shape[1] != m.Encoder.HiddenSize {
		return fmt.Errorf("%s: want a weight of shape [dim, %d], found %v", path, m.Encoder.HiddenSize, t.Shape)
	}
	x := newLayer(m.Encoder.HiddenSize, t.Shape[0])
	x.Bias, x.file = w.Has(projectionPrefix(w)+"bias"), path
	m.layers, m.Dim = []layer{x}, x.Out
	return nil
}

// denseLayers reads the folder's Dense modules in their order.
func (m *Model) denseLayers() error {
	width := m.Encoder.HiddenSize
	for _, module := range m.modules {
		if module.Name() != "Dense" {
			continue
		}
		activation := "Tanh" // the default of sentence-transformers
		if strings.HasPrefix(module.Type, "pylate.") {
			activation = "Identity"
		}
		dir := filepath.Join(m.Dir, module.Path)
		d, err := hf.ReadDense(dir, "token_embeddings", activation)
		if err != nil {
			return err
		}
		if d.In != width {
			return fmt.Errorf("%s: in_features is %d, want %d, the width of what is before it", filepath.Join(dir, "config.json"), d.In, width)
		}
		x := layer{Dense: d, name: linear, path: module.Path}
		if n := len(m.layers); n > 0 {
			x.name = fmt.Sprintf("%s_%d", linear, n+1)
		}
		for _, name := range []string{hf.TorchFile, hf.SafetensorsFile} {
			if there, err := hf.Exists(filepath.Join(dir, name)); err != nil {
				return err
			} else if there {
				x.file = filepath.Join(dir, name)
			}
		}
		if x.file == "" {
			return fmt.Errorf("%s: neither %s nor %s", dir, hf.SafetensorsFile, hf.TorchFile)
		}
		if err := x.open(); err != nil {
			return err
		}
		m.layers, m.Dim, width = append(m.layers, x), d.Out, d.Out
	}
	return nil
}
