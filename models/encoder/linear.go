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

// ApplyLinear computes y = x·Wᵀ + b, [rows, in] to [rows, out]; without b where bias is false.
func ApplyLinear(g *onnx.Graph, w Weights, name string, x *onnx.Value, bias bool) *onnx.Value {
	weight := w(name + ".weight")
	var b *onnx.Value
	if bias {
		b = w(name + ".bias")
	}
	return g.Gemm(x, weight, b, onnx.GemmAttrs{TransB: true})
}

// linear is ApplyLinear in the type of matrix products, see Training.Half, with the layer's adapters if it has any.
func (b builder) linear(name string, x *onnx.Value, bias bool) *onnx.Value {
	defer b.g.Scope(name)()
	x = b.half(x)
	y := b.g.AllowBF16(ApplyLinear(b.g, func(param string) *onnx.Value { return b.half(b.w(param)) }, name, x, bias))
	return b.adapt(name, x, y)
}

// half casts x to the type of matrix products, full to float32.
func (b builder) half(x *onnx.Value) *onnx.Value {
	if b.halfType == 0 || x.DType == b.halfType {
		return x
	}
	return b.g.Cast(x, b.halfType)
}

func (b builder) full(x *onnx.Value) *onnx.Value {
	if x.DType == onnx.Float32 {
		return x
	}
	return b.g.Cast(x, onnx.Float32)
}
