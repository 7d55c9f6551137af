package retriever

import (
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/runtime"
)

// unit finds what computes the products; None computes them in float32.
func (o Options) unit(provider string) (kernels.Unit, error) {
	if o.MixedPrecision == precision.No || provider == runtime.CUDA {
		return kernels.None, nil
	}
	if provider == runtime.OpenVINO {
		return o.openVINOUnit()
	}
	units, err := kernels.Choices(o.MixedPrecision == precision.BF16)
	switch {
	case err != nil:
		return kernels.None, err
	case len(units) > 0:
		return units[0], nil
	case o.MixedPrecision == precision.BF16 && o.Note != nil:
		o.Note("mixed_precision: " + kernels.NoUnit)
	}
	return kernels.None, nil
}

// openVINOUnit is OpenVINO's own unit where this CPU has one.
func (o Options) openVINOUnit() (kernels.Unit, error) {
	device, err := runtime.FindOpenVINO()
	switch {
	case err != nil:
		return kernels.None, err
	case device.BF16:
		return kernels.OpenVINO, nil
	case o.MixedPrecision == precision.BF16 && o.Note != nil:
		o.Note("mixed_precision: OpenVINO finds no bf16 unit in this CPU (AMX or AVX512-BF16), so products are in fp32")
	}
	return kernels.None, nil
}

// pathOf names how an engine computes: fp32, int8, bf16-amx and so on, or int8+bf16-amx.
func pathOf(engine scoring.Options) string {
	switch p := engine.BF16.Precision(); {
	case !engine.Int8:
		return p
	case engine.BF16 != kernels.None:
		return "int8+" + p
	}
	return "int8"
}

// describePrecision says in a line how an engine computes.
func describePrecision(engine scoring.Options) string {
	if engine.Int8 {
		return "linear layers in 8-bit integers, other " + engine.BF16.Describe()
	}
	return engine.BF16.Describe()
}
