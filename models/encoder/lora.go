package encoder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rag-retrieval-go/internal/lowrank"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// LoRA trains small matrices A [rank, in] and B [out, rank] beside frozen linear layers (Hu et al. 2021):
//
//	y = W·x + b + scale·B·A·dropout(x)
//
// Each module of the checkpoint has its own A and B. Several modules may be one layer here, such as q_proj, k_proj and v_proj: their
// matrices are put together in the graph,
//
//	     ⎡Aq⎤        ⎡Bq  0  0⎤
//	A =  ⎢Ak⎥   B =  ⎢ 0 Bk  0⎥
//	     ⎣Av⎦        ⎣ 0  0 Bv⎦
//
// so that the layer stays one product, and they share one dropout mask.
type LoRA struct {
	Rank  int64
	Alpha float64
	// Dropout is the rate of dropout before A.
	Dropout float64
	// Targets are the modules that are adapted: AllLinear, or names as in PEFT: a module is meant if its name is equal or ends with a
	// dot and the name.
	Targets []string
	Seed    uint64 // for the numbers that new matrices A start with
	// RSLoRA makes scale Alpha/√Rank instead of Alpha/Rank (Kalajdzievski 2023).
	RSLoRA bool
}

// AllLinear as a target means every linear layer of the encoder's layers.
const AllLinear = "all-linear"

// The endings of the names of an adapter's tensors, after the module's name, as in PEFT.
const (
	LoraA = hf.LoraA // [rank, in]
	LoraB = hf.LoraB // [out, rank]
)

// Scale is the factor of B·A·x.
func (l LoRA) Scale() float64 {
	return lowrank.Scale(l.Alpha, l.Rank, l.RSLoRA)
}

// targets says whether a module is adapted.
func (l LoRA) targets(module string) bool {
	return slices.ContainsFunc(l.Targets, func(t string) bool {
		return t == AllLinear || module == t || strings.HasSuffix(module, "."+t)
	})
}

// SetLoRA adds adapters to the encoder and freezes the rest of it. A target that no module has is an error.
func (c *Config) SetLoRA(l LoRA) error {
	var all []string
	for _, name := range c.linearLayers() {
		all = append(all, c.modules(name)...)
	}
	for _, t := range l.Targets {
		if one := (LoRA{Targets: []string{t}}); !slices.ContainsFunc(all, one.targets) {
			return fmt.Errorf("lora_targets: no linear layer of model_type %s is called %q, want %s or some of: %s", c.ModelType, t, AllLinear, strings.Join(c.endings(), ", "))
		}
	}
	c.LoRA = &l
	return nil
}

// endings are the names of the modules of a layer, from behind the layer's number.
func (c Config) endings() (out []string) {
	for _, name := range c.layer(0).linear() {
		for _, m := range c.modules(name) {
			_, ending, _ := strings.Cut(m, ".0.")
			out = append(out, ending)
		}
	}
	return out
}

// linear are the linear layers of a layer.
func (n layerNames) linear() []string {
	return slices.DeleteFunc([]string{n.queryKeyValue, n.query, n.keyValue, n.attentionOutput, n.up, n.down}, func(s string) bool { return s == "" })
}

// linearLayers are the linear layers that can be adapted.
func (c Config) linearLayers() (out []string) {
	for i := range c.NumHiddenLayers {
		out = append(out, c.layer(i).linear()...)
	}
	return out
}

// modules are the modules of transformers that a linear layer is made of. Each has an equal share of the layer's rows.
func (c Config) modules(linear string) []string {
	out := slices.Clone(c.spellings()[0](linear + ".weight"))
	for i := range out {
		out[i] = strings.TrimSuffix(out[i], ".weight")
	}
	return out
}

// adapted are the modules of a linear layer, with "" in place of those without an adapter. It is nil where none has one.
func (c Config) adapted(linear string) []string {
	if c.LoRA == nil {
		return nil
	}
	out, some := c.modules(linear), false
	for i, m := range out {
		if c.LoRA.targets(m) {
			some = true
		} else {
			out[i] = ""
		}
	}
	if !some {
		return nil
	}
	return out
}

// adapterParams lists the adapters of a layer with these parameters.
func (c Config) adapterParams(n layerNames, params []flat.Param) (out []flat.Param) {
	for _, linear := range n.linear() {
		modules := c.adapted(linear)
		for _, module := range modules {
			if module == "" {
				continue
			}
			i := slices.IndexFunc(params, func(p flat.Param) bool { return p.Name == linear+".weight" })
			rows, in := params[i].Dims[0]/int64(len(modules)), params[i].Dims[1]
			out = append(out,
				flat.Param{Name: module + LoraA, Dims: []int64{c.LoRA.Rank, in}, Decay: true},
				flat.Param{Name: module + LoraB, Dims: []int64{rows, c.LoRA.Rank}, Decay: true})
		}
	}
	return out
}

// StartAdapter fills a new adapter's tensor as PEFT does: A with torch.nn.Linear's distribution, B with zeros, so that the model
// starts unchanged. It returns false for any other parameter.
func (c Config) StartAdapter(p flat.Param, values []float32) bool {
	switch {
	case c.LoRA == nil:
		return false
	case strings.HasSuffix(p.Name, LoraA):
		hf.InitUniform(values, c.LoRA.Seed, p.Name, p.Dims[1])
	case strings.HasSuffix(p.Name, LoraB):
		clear(values)
	default:
		return false
	}
	return true
}

// adapt adds the adapters of a linear layer to its output y, [tokens, out]. x is its input, [tokens, in].
func (b builder) adapt(linear string, x, y *onnx.Value) *onnx.Value {
	modules := b.c.adapted(linear)
	if modules == nil {
		return y
	}
	g, l := b.g, b.c.LoRA
	if l.Dropout > 0 && b.drop != nil {
		x = b.half(b.drop.Apply(linear+"/lora/dropout", b.full(x), l.Dropout)) // the factors are float32
	}
	var down, up []*onnx.Value
	rows, adapters := y.Shape[1].Size/int64(len(modules)), int64(0)
	for _, m := range modules {
		if m != "" {
			down, adapters = append(down, b.half(b.w(m+LoraA))), adapters+1
		}
	}
	zeros := func(columns int64) []*onnx.Value {
		if columns == 0 {
			return nil
		}
		return []*onnx.Value{g.Const(onnx.Filled(y.DType, 0, rows, columns))}
	}
	before := int64(0) // columns of B that belong to the modules before
	for _, m := range modules {
		if m == "" {
			up = append(up, zeros(adapters*l.Rank)...)
			continue
		}
		row := append(zeros(before), b.half(b.w(m+LoraB)))
		before += l.Rank
		up = append(up, g.Concat(1, append(row, zeros(adapters*l.Rank-before)...)...))
	}
	h := g.AllowBF16(g.Gemm(x, g.Concat(0, down...), nil, onnx.GemmAttrs{TransB: true}))
	return g.AllowBF16(g.Gemm(h, g.Concat(0, up...), y, onnx.GemmAttrs{Alpha: float32(l.Scale()), TransB: true}))
}

// Merged returns the layout and the values of the parameters of a model without adapters, in which the products of the adapters are
// part of the weights. params are that model's; l and values are those of this one.
func (c Config) Merged(params []flat.Param, l *flat.Layout, values []float32) (*flat.Layout, []float32, error) {
	whole, err := flat.NewLayout(params)
	if err != nil {
		return nil, nil, err
	}
	out := make([]float32, whole.Total)
	if err := whole.Each(out, func(p flat.Param, to []float32) error {
		from, err := l.View(values, p.Name)
		copy(to, from)
		return err
	}); err != nil {
		return nil, nil, err
	}
	for _, linear := range c.linearLayers() {
		modules := c.adapted(linear)
		for i, m := range modules {
			if m == "" {
				continue
			}
			w, wErr := whole.View(out, linear+".weight")
			a, aErr := l.View(values, m+LoraA)
			b, bErr := l.View(values, m+LoraB)
			if err := errors.Join(wErr, aErr, bErr); err != nil {
				return nil, nil, err
			}
			share := len(w) / len(modules)
			lowrank.Add(w[i*share:(i+1)*share], b, a, int(c.LoRA.Rank), c.LoRA.Scale())
		}
	}
	return whole, out, nil
}
