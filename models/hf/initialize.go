package hf

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// random returns a random generator that depends only on the seed and the parameter's name.
func random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// InitUniform initializes the weight or bias of a new linear layer with in inputs as torch.nn.Linear does: uniformly in
// ±1/√in. The values depend only on the seed and the parameter's name, here and in InitNormal.
func InitUniform(values []float32, seed uint64, name string, in int64) {
	r, bound := random(seed, name), 1/math.Sqrt(float64(in))
	for i := range values {
		values[i] = float32((2*r.Float64() - 1) * bound)
	}
}

// InitNormal initializes a new weight from a normal distribution, as transformers does for its heads. deviation is the standard
// deviation. If cutoff is above 0, the distribution is truncated at cutoff deviations (torch's trunc_normal_).
func InitNormal(values []float32, seed uint64, name string, deviation, cutoff float64) {
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
