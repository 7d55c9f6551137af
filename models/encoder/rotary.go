package encoder

import (
	"cmp"
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// Rotation is a rotary position embedding: at position p, pair i of a head's numbers is rotated by the angle p·f(i), where without
// scaling f(i) = Base^(-2i/size).
type Rotation struct {
	Base float64
	// Scaling is rope_type: "" for none; "linear" divides f by Factor; "ntk" is GTE's, see frequency; "llama3" divides the low
	// frequencies.
	Scaling string
	Factor  float64
	// LowFactor, HighFactor and Original are llama3's: a frequency whose wavelength is at most Original/HighFactor stays, one of
	// at least Original/LowFactor is divided by Factor, and those between are interpolated.
	LowFactor, HighFactor, Original float64
}

// frequency is f(i) of a head of so many numbers.
// Sources: linear, Chen et al. 2023; llama3, Meta's models, as transformers computes it; ntk, Su 2023, as GTE's own code does.
func (r Rotation) frequency(i, size int64) float64 {
	exponent := -2 * float64(i) / float64(size)
	f := math.Pow(r.Base, exponent)
	switch r.Scaling {
	case "linear":
		return f / r.Factor
	case ntk:
		return math.Pow(r.Base*r.Factor, exponent) / math.Pow(r.Factor, 2/float64(size))
	case "llama3":
		wave := 2 * math.Pi / f
		switch {
		case wave < r.Original/r.HighFactor:
			return f
		case wave > r.Original/r.LowFactor:
			return f / r.Factor
		}
		keep := (r.Original/wave - r.LowFactor) / (r.HighFactor - r.LowFactor)
		return (1-keep)*f/r.Factor + keep*f
	}
	return f
}

// ropeParameters has the keys of config.json's rope_parameters, or of rope_scaling in older files.
type ropeParameters struct {
	Type       string  `json:"rope_type"`
	OldType    string  `json:"type"`
	Base       float64 `json:"rope_theta"`
	Factor     float64 `json:"factor"`
	LowFactor  float64 `json:"low_freq_factor"`
	HighFactor float64 `json:"high_freq_factor"`
	Original   float64 `json:"original_max_position_embeddings"`
}

// rotation returns an error that names the key for every scaling that is not computed here. base is used where the keys have no
// rope_theta, or are absent, and positions, the longest text, where they have no original_max_position_embeddings.
func (r *ropeParameters) rotation(key string, base float64, positions int64) (Rotation, error) {
	if r == nil {
		r = &ropeParameters{}
	}
	out := Rotation{Base: cmp.Or(r.Base, base)}
	if !(out.Base > 0) {
		return out, fmt.Errorf("%s: rope_theta is %g, want a positive number", key, out.Base)
	}
	switch out.Scaling = cmp.Or(r.Type, r.OldType); out.Scaling {
	case "", "default":
		return Rotation{Base: out.Base}, nil
	case "linear":
		out.Factor = r.Factor
	case "llama3":
		out.Factor, out.LowFactor, out.HighFactor, out.Original = r.Factor, r.LowFactor, r.HighFactor, cmp.Or(r.Original, float64(positions))
		if !(out.LowFactor > 0) || !(out.HighFactor > out.LowFactor) {
			return out, fmt.Errorf("%s: low_freq_factor is %g and high_freq_factor %g, want positive numbers, the second larger", key, out.LowFactor, out.HighFactor)
		}
	default:
		return out, fmt.Errorf("%s: rope_type is %q, want default, linear or llama3: other scalings are not computed here", key, out.Scaling)
	}
	if !(out.Factor > 0) {
		return out, fmt.Errorf("%s: factor is %g, want a positive number", key, out.Factor)
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
		frequency[i] = float32(by.frequency(int64(i), b.c.HeadSize()))
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
