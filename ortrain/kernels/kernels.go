// Package kernels has operators in C for ONNX Runtime's CPU provider: matrix products in bfloat16 on the CPU's matrix unit,
// and passes over memory that stock operators need several passes for. Graphs on disk contain none of them. Substitute puts them into
// a graph when a session is opened; package runtime calls it.
package kernels

/*
#cgo LDFLAGS: -lm
#include "cpu.h"
*/
import "C"

import "fmt"

// Unit is a part of the CPU that multiplies bfloat16.
type Unit string

// The units. Inputs of a product are rounded to bfloat16, and sums are float32 on each of them; they differ in the order of a sum.
const (
	None     Unit = ""         // no bfloat16
	AMX      Unit = "amx"      // tiles: Intel, from 2023 (Sapphire Rapids)
	AVX512   Unit = "avx512"   // the instruction vdpbf16ps: Intel, from 2020 (Cooper Lake); AMD, from 2022 (Zen 4)
	Portable Unit = "portable" // C: the reference, slower than float32
)

// Units lists the units, fastest first.
var Units = []Unit{AMX, AVX512, Portable}

// Best returns the fastest unit of this CPU, or None if it has only Portable.
func Best() Unit {
	for _, u := range []Unit{AMX, AVX512} {
		if u.Check() == nil {
			return u
		}
	}
	return None
}

// Check returns an error if this CPU, this operating system or this build lacks the unit.
func (u Unit) Check() error {
	switch have := C.rr_cpu(); {
	case u == None, u == Portable, u == AMX && have&C.RR_AMX != 0, u == AVX512 && have&C.RR_VDPBF16 != 0:
		return nil
	case u == AMX || u == AVX512:
		return fmt.Errorf("this CPU has no %s", u)
	}
	return fmt.Errorf("no unit %q; there are %v", u, Units)
}

// Vectors names the vector instructions that kernels in float32 use here: avx512, avx2 or portable.
func Vectors() string {
	switch have := C.rr_cpu(); {
	case have&C.RR_AVX512 != 0:
		return "avx512"
	case have&C.RR_AVX2 != 0:
		return "avx2"
	}
	return "portable"
}
