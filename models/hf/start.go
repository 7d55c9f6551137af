package hf

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// random returns a random generator that depends only on the seed and the parameter's name.
func random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Uniform initializes the weight or bias of a new linear layer as torch.nn.Linear does: uniformly in ±1/√in.
func Uniform(values []float32, seed uint64, name string, in int64) {
	r, bound := random(seed, name), 1/math.Sqrt(float64(in))
	for i := range values {
		values[i] = float32((2*r.Float64() - 1) * bound)
	}
}

// Normal initializes a new weight from a normal distribution, as transformers does for its heads. If cutoff is above 0, the
// distribution is truncated at cutoff deviations (torch's trunc_normal_).
func Normal(values []float32, seed uint64, name string, deviation, cutoff float64) {
	r := random(seed, name)
	for i := range values {
		x := 0.0
		if cutoff > 0 {
			x = math.Sqrt2 * math.Erfinv((2*r.Float64()-1)*math.Erf(cutoff/math.Sqrt2))
		} else {
			x = r.NormFloat64()
		}
		values[i] = float32(x * deviation)
	}
}

// WriteParams writes some parameters of a flat buffer to a file. name returns a tensor's name for a parameter's name.
func WriteParams(path string, params []flat.Param, l *flat.Layout, buffer []float32, name func(string) string) error {
	var out []safetensors.Tensor
	for _, p := range params {
		values, err := l.View(buffer, p.Name)
		if err != nil {
			return err
		}
		out = append(out, safetensors.FromFloat32(name(p.Name), values, p.Dims...))
	}
	return WriteWeights(path, nil, out)
}
