// Package precision has the values of mixed_precision: how matrix products are computed. Configurations, options and flags all take them
// from here. The path that a run took, such as bf16-amx, is named by kernels.Unit.
package precision

// The values.
const (
	No   = "no"   // float32
	FP32 = "fp32" // another word for No
	FP16 = "fp16" // training on CUDA only
	BF16 = "bf16"
	Auto = "auto" // BF16 where the CPU has a unit for it that is faster, otherwise No
)

// Training lists the values that training takes.
var Training = []string{No, FP32, FP16, BF16, Auto}

// Scoring lists the values that scoring takes.
var Scoring = []string{No, FP32, BF16, Auto}

// Normal is the value without synonyms: No for FP32, and for none.
func Normal(value string) string {
	if value == "" || value == FP32 {
		return No
	}
	return value
}
