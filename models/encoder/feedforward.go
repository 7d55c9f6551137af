package encoder

import (
	"math"
	"slices"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// Activations are the values of hidden_act that this package computes, in the order of rr_activation_kind of package kernels.
var Activations = []string{"gelu", "gelu_pytorch_tanh", "silu"}

// feedForward is, [tokens, hidden] to [tokens, hidden]:
//
//	plain:  down(act(up(x)))
//	gated:  down(act(a) · b),  a, b the two halves of up(x)   (GeGLU, SwiGLU: Shazeer 2020); with GateLast, a is the second half
func (b builder) feedForward(n layerNames, name string, x *onnx.Value) *onnx.Value {
	blocks, f := b.c.Blocks, b.c.IntermediateSize
	wide := b.linear(n.up, x, blocks.UpBias)
	if blocks.Gated {
		wide = b.gate(wide, f)
	} else {
		wide = b.activation(wide)
	}
	if rate := b.c.ActivationDropout; blocks.ActivationDropout && b.drop != nil && rate > 0 {
		wide = b.drop.Apply(name+"/activation/dropout", b.full(wide), rate) // the factors are float32
	}
	return b.linear(n.down, wide, blocks.DownBias)
}

// gate is act(a) · b of the halves of x, each of width f.
func (b builder) gate(x *onnx.Value, f int64) *onnx.Value {
	attrs := onnx.Attrs{"kind": b.activationKind(), "gate_last": int64(0)}
	if b.c.Blocks.GateLast {
		attrs["gate_last"] = int64(1)
	}
	return grad.Fuse(b.g, &grad.Composite{Op: "Gated", Inputs: []*onnx.Value{x}, Attrs: attrs}, func(c *grad.Composite) {
		parts := b.g.Split(x, 1, f, f)
		gate, other := parts[0], parts[1]
		if b.c.Blocks.GateLast {
			gate, other = other, gate
		}
		c.Value = b.g.Mul(b.activation(gate), other)
	})
}

// activationKind is the number that the kernels have for hidden_act.
func (b builder) activationKind() int64 { return int64(slices.Index(Activations, b.c.HiddenAct)) }

// activation applies act in float32 to x in the type of matrix products, and returns that type. The float32 values are
// recomputed in the backward pass: kept, they would undo what the smaller type saves.
func (b builder) activation(x *onnx.Value) *onnx.Value {
	if b.halfType == 0 {
		return b.act(x)
	}
	return b.half(grad.Recompute(b.g, b.act(grad.Recompute(b.g, b.full(x)))))
}

// act is the config's hidden_act:
//
//	gelu               x·Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016)
//	gelu_pytorch_tanh  x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
//	silu               x·sigmoid(x)
func (b builder) act(x *onnx.Value) *onnx.Value {
	g := b.g
	if b.c.HiddenAct == "gelu" {
		return g.Gelu(x)
	}
	c := &grad.Composite{Op: "Activation", Inputs: []*onnx.Value{x}, Attrs: onnx.Attrs{"kind": b.activationKind()}}
	return grad.Fuse(g, c, func(c *grad.Composite) {
		if b.c.HiddenAct == "silu" {
			c.Value = g.Mul(x, g.Sigmoid(x))
			return
		}
		cube := g.Mul(g.Mul(g.Mul(x, x), x), g.Scalar(x, 0.044715))
		t := g.Tanh(g.Mul(g.Add(x, cube), g.Scalar(x, math.Sqrt(2/math.Pi))))
		c.Value = g.Mul(g.Mul(x, g.Scalar(x, 0.5)), g.Add(t, g.Scalar(x, 1)))
	})
}
