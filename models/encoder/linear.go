package encoder

import (
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Linear lists the parameters of a dense layer, with or without a bias.
func Linear(name string, out, in int64, bias bool) []flat.Param {
	p := []flat.Param{{Name: name + ".weight", Dims: []int64{out, in}, Decay: true}}
	if bias {
		p = append(p, flat.Param{Name: name + ".bias", Dims: []int64{out}})
	}
	return p
}

// ApplyLinear is y = x·Wᵀ + b, [rows, in] to [rows, out], or without b where the layer has none.
func ApplyLinear(g *onnx.Graph, w Weights, name string, x *onnx.Value, bias bool) *onnx.Value {
	weight := w(name + ".weight")
	var b *onnx.Value
	if bias {
		b = w(name + ".bias")
	}
	return g.Gemm(x, weight, b, onnx.GemmAttrs{TransB: true})
}

// linear is ApplyLinear, [tokens, in] to [tokens, out], in the type of matrix products.
func (b builder) linear(name string, x *onnx.Value, bias bool) *onnx.Value {
	defer b.g.Scope(name)()
	x = b.half(x)
	return ApplyLinear(b.g, func(param string) *onnx.Value { return b.half(b.w(param)) }, name, x, bias)
}

// half is x as matrix products read it, full as everything else does.
func (b builder) half(x *onnx.Value) *onnx.Value {
	if b.kind == 0 || x.DType == b.kind {
		return x
	}
	return b.g.Cast(x, b.kind)
}

func (b builder) full(x *onnx.Value) *onnx.Value {
	if x.DType == onnx.Float32 {
		return x
	}
	return b.g.Cast(x, onnx.Float32)
}
