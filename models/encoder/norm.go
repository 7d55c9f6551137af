package encoder

import (
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// Norm lists the parameters of a norm over width numbers.
func (c Config) Norm(name string, width int64) []flat.Param {
	p := []flat.Param{{Name: name + ".weight", Dims: []int64{width}}}
	if c.Blocks.NormBias {
		p = append(p, flat.Param{Name: name + ".bias", Dims: []int64{width}})
	}
	return p
}

// norm normalizes the last dimension of x, of width n, in float32:
//
//	LayerNorm (Ba et al. 2016):           y = (x - mean) / √(variance + ε) · weight + bias
//	RMSNorm (Zhang and Sennrich 2019):    y = x / √(mean of x² + ε) · weight; with NormPlusOne, · (1 + weight)
func (b builder) norm(name string, x *onnx.Value) *onnx.Value {
	if !b.c.Blocks.RMSNorm {
		return b.c.LayerNorm(b.g, b.w, name, x)
	}
	defer b.g.Scope(name)()
	weight := b.w(name + ".weight")
	if b.c.Blocks.NormPlusOne {
		weight = b.g.Add(weight, b.g.Scalar(weight, 1))
	}
	return b.rmsNorm(x, weight)
}

// LayerNorm applies the LayerNorm of that name with the config's epsilon, and a bias where the config has one. Heads of an
// architecture use it too.
func (c Config) LayerNorm(g *onnx.Graph, w Weights, name string, x *onnx.Value) *onnx.Value {
	defer g.Scope(name)()
	weight := w(name + ".weight")
	var bias *onnx.Value
	if c.Blocks.NormBias {
		bias = w(name + ".bias")
	} else {
		sizes, _ := weight.Shape.Sizes()
		bias = g.Const(onnx.Filled(onnx.Float32, 0, sizes...))
	}
	return g.LayerNormalization(x, weight, bias, float32(c.LayerNormEps))
}

func (b builder) rmsNorm(x, weight *onnx.Value) *onnx.Value {
	g := b.g
	c := &grad.Composite{Op: "RMSNorm", Inputs: []*onnx.Value{x, weight}, Attrs: onnx.Attrs{"epsilon": float32(b.c.LayerNormEps)}}
	return grad.Fuse(g, c, func(c *grad.Composite) {
		// ReduceMean would have its axes as an attribute in ExportOpset and as an input in onnx.Opset; ReduceSum is the same in both.
		sum := g.ReduceSum(g.Mul(x, x), true, int64(x.Rank()-1))
		mean := g.Mul(sum, g.Scalar(x, 1/float64(weight.Shape[0].Size)))
		c.Kept = g.Reciprocal(g.Sqrt(g.Add(mean, g.Scalar(x, b.c.LayerNormEps))))
		c.Value = g.Mul(g.Mul(x, c.Kept), weight)
	})
}
