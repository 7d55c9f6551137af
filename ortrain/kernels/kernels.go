// Package kernels has operators in C for ONNX Runtime's CPU provider: matrix products in bfloat16 on the CPU's matrix unit,
// and passes over memory that stock operators need several passes for. Graphs on disk contain none of them. Substitute puts them into
// a graph when a session is opened; package runtime calls it.
package kernels

/*
#cgo CFLAGS: -I${SRCDIR}/../../.rag-retrieval/include
#cgo LDFLAGS: -lm -lpthread
#include <stdlib.h>
#include "cpu.h"
#include "gemm.h"
#include "operators.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Unit is a part of the CPU that multiplies bfloat16.
type Unit string

// The units. Inputs of a product are rounded to bfloat16, and sums are float32 on each of them; they differ in the order of a sum.
const (
	None     Unit = ""         // no bfloat16
	AMX      Unit = "amx"      // tiles: Intel, from 2023 (Sapphire Rapids)
	AVX512   Unit = "avx512"   // the instruction vdpbf16ps: Intel, from 2020 (Cooper Lake); AMD, from 2022 (Zen 4)
	Portable Unit = "portable" // C: the reference, slower than float32
	ARM64    Unit = "arm64"    // ONNX Runtime's own products on Linux arm64 with the instruction bfmmla; never run by this project
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
	missing := map[Unit]string{
		AMX: "this CPU has no AMX for bf16, or the system does not allow it", AVX512: "this CPU has no AVX512-BF16", ARM64: "this is no arm64 CPU with bf16",
	}
	switch have := C.rr_cpu(); {
	case u == None, u == Portable, u == AMX && have&C.RR_AMX != 0, u == AVX512 && have&C.RR_VDPBF16 != 0, u == ARM64 && hasARM64():
		return nil
	case missing[u] != "":
		return errors.New(missing[u])
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

// number is the unit's number in C.
func (u Unit) number() int64 {
	return map[Unit]int64{Portable: C.RR_UNIT_PORTABLE, AVX512: C.RR_UNIT_AVX512, AMX: C.RR_UNIT_AMX}[u]
}

// AddOperators adds the operators to the options of a session. api is ONNX Runtime's OrtApi, options the OrtSessionOptions.
func AddOperators(api, options unsafe.Pointer) error {
	message := C.rr_add_operators((*C.OrtApi)(api), (*C.OrtSessionOptions)(options))
	if message == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(message))
	return errors.New(C.GoString(message))
}

// WeightsChanged says that inputs which are weights may have other values in the next run, see Weights. Kernels keep weights in a
// packed form until then. It is for all sessions of the process: none that has such inputs may run meanwhile.
func WeightsChanged() { C.rr_weights_changed() }
