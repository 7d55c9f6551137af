package retriever

import (
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// The values of Options.MixedPrecision.
const (
	NoBF16   = "no"
	BF16     = "bf16"
	AutoBF16 = "auto"
)

// Precisions lists them.
var Precisions = []string{NoBF16, BF16, AutoBF16}

// unit finds what computes the products; None computes them in float32.
func (o Options) unit(provider string) (kernels.Unit, error) {
	if o.MixedPrecision == NoBF16 || provider == runtime.CUDA {
		return kernels.None, nil
	}
	units, err := kernels.Choices(o.MixedPrecision == BF16)
	switch {
	case err != nil:
		return kernels.None, err
	case len(units) > 0:
		return units[0], nil
	case o.MixedPrecision == BF16 && o.Note != nil:
		o.Note("mixed_precision: " + kernels.NoUnit)
	}
	return kernels.None, nil
}

// precision names how an engine computes: fp32, int8, bf16-amx and so on, or int8+bf16-amx.
func precision(engine scoring.Options) string {
	switch p := engine.BF16.Precision(); {
	case !engine.Int8:
		return p
	case engine.BF16 != kernels.None:
		return "int8+" + p
	}
	return "int8"
}
