package onnx

import (
	"encoding/json"
	"maps"
	"slices"
)

// Kernel says that one call of an operator in C can compute some values of a graph in place of the nodes that compute them in the
// file. The file stays an ordinary ONNX file: kernels are in its metadata, see KernelsKey. Package kernels has the operators,
// and puts them into the graph when a session is opened.
type Kernel struct {
	Op      string
	Inputs  []*Value // computed before the nodes of all outputs; nil for a missing optional input
	Outputs []*Value // nil for an output that is not needed
	Attrs   Attrs    // values are int64 or float32
}

// Kernel records that a kernel can compute values of the graph.
func (g *Graph) Kernel(k Kernel) { g.kernels = append(g.kernels, k) }

// AllowBF16 says that the inputs of the matrix product v may be rounded to bfloat16 when a session computes products in that type.
// It returns v.
func (g *Graph) AllowBF16(v *Value) *Value {
	if v.Producer != nil && v.DType == Float32 && !g.StandardOpsOnly {
		v.Producer.AllowsBF16 = true
	}
	return v
}

// Keys of a file's metadata. Their contents are JSON: a list of KernelEntry, and a list of names of nodes.
const (
	KernelsKey  = "rag_retrieval.kernels"
	ProductsKey = "rag_retrieval.bf16_products" // nodes whose inputs may be rounded to bfloat16, see AllowBF16
)

// KernelEntry is a Kernel in a file's metadata, with the names of values. The name of a missing value is "".
type KernelEntry struct {
	Op      string             `json:"op"`
	Inputs  []string           `json:"inputs"`
	Outputs []string           `json:"outputs"`
	Ints    map[string]int64   `json:"ints,omitempty"`
	Floats  map[string]float32 `json:"floats,omitempty"`
}

// kernelMeta returns the metadata entries for the kernels whose inputs and outputs are in the graph.
func (g *Graph) kernelMeta() (map[string]string, error) {
	computed := map[*Value]bool{}
	var products []string
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			computed[v] = true
		}
		if n.AllowsBF16 {
			products = append(products, n.Name)
		}
	}
	var entries []KernelEntry
	known := maps.Clone(computed)
	for _, v := range slices.Concat(g.Inputs, g.Initializers) {
		known[v] = true
	}
	for _, k := range g.kernels {
		unknown := slices.ContainsFunc(k.Inputs, func(v *Value) bool { return v != nil && !known[v] })
		if !unknown && slices.ContainsFunc(k.Outputs, func(v *Value) bool { return computed[v] }) {
			entries = append(entries, k.entry(computed))
		}
	}
	meta := map[string]string{}
	for key, list := range map[string]any{KernelsKey: entries, ProductsKey: products} {
		b, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		if text := string(b); text != "null" {
			meta[key] = text
		}
	}
	return meta, nil
}

func (k Kernel) entry(computed map[*Value]bool) KernelEntry {
	e := KernelEntry{Op: k.Op}
	for _, v := range k.Inputs {
		e.Inputs = append(e.Inputs, nameOf(v))
	}
	for _, v := range k.Outputs {
		if !computed[v] {
			v = nil
		}
		e.Outputs = append(e.Outputs, nameOf(v))
	}
	e.Inputs, e.Outputs = trimmed(e.Inputs), trimmed(e.Outputs)
	for name, x := range k.Attrs {
		switch x := x.(type) {
		case int64:
			if e.Ints == nil {
				e.Ints = map[string]int64{}
			}
			e.Ints[name] = x
		case float32:
			if e.Floats == nil {
				e.Floats = map[string]float32{}
			}
			e.Floats[name] = x
		}
	}
	return e
}

// trimmed removes missing names from the end of a list.
func trimmed(names []string) []string {
	for len(names) > 0 && names[len(names)-1] == "" {
		names = names[:len(names)-1]
	}
	return names
}

func nameOf(v *Value) string {
	if v == nil {
		return ""
	}
	return v.Name
}
