package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// Rotation is a rotary position embedding: at position p, pair i of a head's numbers is rotated by the angle
// p / Factor · Base^(-2i/size).
type Rotation struct {
	Base   float64
	Factor float64 // of linear scaling; 1 is no scaling
}

// ropeParameters has the keys of config.json's rope_parameters, or of rope_scaling in older files.
type ropeParameters struct {
	Type    string  `json:"rope_type"`
	OldType string  `json:"type"`
	Base    float64 `json:"rope_theta"`
	Factor  float64 `json:"factor"`
}

// rotation returns an error that names the key for every scaling other than linear. base is used where the keys have no
// rope_theta.
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

// angles has the cosine and sine of the angles by which tokens are rotated, each float32 [tokens, 1, head size / 2].
type angles struct{ cos, sin *onnx.Value }

// angle computes the angles of a rotation for all tokens.
func (b builder) angle(by Rotation) angles {
	g, half := b.g, b.c.HeadSize()/2
	defer g.Scope("rotary")()
	frequency := make([]float32, half)
	for i := range frequency {
		frequency[i] = float32(1 / math.Pow(by.Base, float64(i)/float64(half)) / by.Factor)
	}
	at := g.Unsqueeze(g.Cast(b.l.places(), onnx.Float32), 1, 2)
	angle := g.Mul(at, g.Const(onnx.Floats(frequency, 1, 1, half)))
	return angles{g.Cos(angle), g.Sin(angle)}
}

// rotate rotates the pairs (x[i], x[i + size/2]) of every head, so that the product of a query and a key depends on their
// distance. x is [tokens, heads, size].
// Source: Su et al. 2021 (RoFormer), in the order of halves that transformers has.
func (b builder) rotate(x *onnx.Value, by Rotation) *onnx.Value {
	g, half, a := b.g, b.c.HeadSize()/2, b.angles[by]
	parts := g.Split(x, 2, half, half)
	first := g.Sub(g.Mul(parts[0], a.cos), g.Mul(parts[1], a.sin))
	second := g.Add(g.Mul(parts[1], a.cos), g.Mul(parts[0], a.sin))
	return g.Concat(2, first, second)
}
