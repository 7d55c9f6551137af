package encoder

import (
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Linear lists the parameters of a dense layer.
func Linear(name string, out, in int64) []flat.Param {
	return []flat.Param{
		{Name: name + ".weight", Dims: []int64{out, in}, Decay: true},
		{Name: name + ".bias", Dims: []int64{out}},
	}
}

// linear lists the parameters of a dense layer that may have no bias.
func linear(name string, out, in int64, bias bool) []flat.Param {
	p := Linear(name, out, in)
	if !bias {
		p = p[:1]
	}
	return p
}

// linear is y = x·Wᵀ + b, [tokens, in] to [tokens, out], or without b where the layer has none.
func (b builder) linear(name string, x *onnx.Value, bias bool) *onnx.Value {
	defer b.g.Scope(name)()
	x = b.half(x)
	w := b.half(b.w(name + ".weight"))
	var c *onnx.Value
	if bias {
		c = b.half(b.w(name + ".bias"))
	}
	return b.g.Gemm(x, w, c, onnx.GemmAttrs{TransB: true})
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
