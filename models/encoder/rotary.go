package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// Rotation is a rotary position embedding: position p turns pair i of a head's numbers by p / Factor · Base^(-2i/size).
type Rotation struct {
	Base   float64
	Factor float64 // of linear scaling; 1: none
}

// ropeParameters are the keys of a rotary embedding, in config.json's rope_parameters or rope_scaling.
type ropeParameters struct {
	Type    string  `json:"rope_type"`
	OldType string  `json:"type"`
	Base    float64 `json:"rope_theta"`
	Factor  float64 `json:"factor"`
}

// rotation refuses what is scaled in another way than linearly. base counts where the keys name none.
func (r ropeParameters) rotation(key string, base float64) (Rotation, error) {
	out := Rotation{Base: base, Factor: 1}
	if r.Base != 0 {
		out.Base = r.Base
	}
	kind := r.Type
	if kind == "" {
		kind = r.OldType
	}
	switch kind {
	case "", "default":
	case "linear":
		out.Factor = r.Factor
	default:
		return out, fmt.Errorf("%s: rope_type is %q, want default or linear: other scalings are not computed here", key, kind)
	}
	if !(out.Base > 0) || !(out.Factor > 0) {
		return out, fmt.Errorf("%s: rope_theta is %g and factor %g, want positive numbers", key, out.Base, out.Factor)
	}
	return out, nil
}

// turn has the cosine and sine of the angles by which tokens are rotated, each float32 [tokens, 1, head size / 2].
type turn struct{ cos, sin *onnx.Value }

// turn makes the angles of a rotation for all tokens.
func (b builder) turn(by Rotation) turn {
	g, half := b.g, b.c.HeadSize()/2
	defer g.Scope("rotary")()
	speed := make([]float32, half)
	for i := range speed {
		speed[i] = float32(1 / math.Pow(by.Base, float64(i)/float64(half)) / by.Factor)
	}
	at := g.Unsqueeze(g.Cast(b.l.places(), onnx.Float32), 1, 2)
	angle := g.Mul(at, g.Const(onnx.Floats(speed, 1, 1, half)))
	return turn{g.Cos(angle), g.Sin(angle)}
}

// rotate turns the pairs (x[i], x[i + size/2]) of every head, so that the product of a query and a key depends on how far
// they are apart. x is [tokens, heads, size].
// Source: Su et al. 2021 (RoFormer), in the order of halves that transformers has.
func (b builder) rotate(x *onnx.Value, by Rotation) *onnx.Value {
	g, half, t := b.g, b.c.HeadSize()/2, b.turns[by]
	parts := g.Split(x, 2, half, half)
	first := g.Sub(g.Mul(parts[0], t.cos), g.Mul(parts[1], t.sin))
	second := g.Add(g.Mul(parts[1], t.cos), g.Mul(parts[0], t.sin))
	return g.Concat(2, first, second)
}
