package main

import (
	"fmt"
	"strings"

	"rag-retrieval-go/ortrain/kernels"
)

// bf16Path says which units for bf16 the CPU has, and how train and scoring compute. It is an error if a unit is forced that is not here.
func bf16Path() (state, found string, err error) {
	var units []string
	for _, u := range kernels.Present(true) {
		units = append(units, string(u))
	}
	has := "the CPU has no AMX or AVX512-BF16"
	if len(units) > 0 {
		has = "the CPU has " + strings.Join(units, ", ")
	}
	forced, err := kernels.Forced()
	if err != nil {
		return "MISSING", "", err
	}
	if forced != kernels.None {
		has += fmt.Sprintf("; %s=%s forces %s", kernels.Variable, forced, forced)
	}
	auto, err := kernels.Choices(false)
	if err != nil {
		return "MISSING", "", err
	}
	asked, err := kernels.Choices(true)
	switch {
	case err != nil:
		return "MISSING", "", err
	case len(asked) == 0:
		return "none", fmt.Sprintf("%s: train and scoring compute in fp32 (%s=portable computes bf16 all the same, slowly)", has, kernels.Variable), nil
	case len(auto) == 0:
		return "ok", fmt.Sprintf("%s: train and scoring compute in fp32, with --mixed-precision bf16 in %s", has, asked[0].Precision()), nil
	}
	return "ok", fmt.Sprintf("%s: train computes in %s, scoring in fp32, with --mixed-precision bf16 in %s", has, auto[0].Precision(), asked[0].Precision()), nil
}

// bf16OfRank is bf16Path for a table of ranks: the precision of train, or what is wrong.
func bf16OfRank() string {
	units, err := kernels.Choices(false)
	switch {
	case err != nil:
		return err.Error()
	case len(units) == 0:
		return kernels.None.Precision()
	}
	return units[0].Precision()
}
