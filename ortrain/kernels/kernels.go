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
	OpenVINO Unit = "openvino" // OpenVINO's own products, where it is the provider; it keeps other values in bfloat16 too
)

// units has a row for each unit, fastest first. All that depends on which units there are asks it.
var units = []struct {
	unit    Unit
	number  int64       // in C; -1: ONNX Runtime computes the products itself
	have    func() bool // whether this CPU, this operating system and this build have it
	missing string      // what the user reads where it is missing
	faster  func() bool // whether it is faster than float32 here, as far as is known
}{
	{AMX, C.RR_UNIT_AMX, func() bool { return cpuHas(C.RR_AMX) }, "this CPU has no AMX for bf16, or the system does not allow it", always},
	// On AMD's Zen 4 products are twice as fast as in float32, on Intel's Emerald Rapids slower. Intel's CPUs that have this unit and not
	// AMX were not measured, nor were AMD's later ones.
	{AVX512, C.RR_UNIT_AVX512, func() bool { return cpuHas(C.RR_VDPBF16) }, "this CPU has no AVX512-BF16", madeByAMD},
	{Portable, C.RR_UNIT_PORTABLE, always, "", never},
	{ARM64, -1, hasARM64, "this is no arm64 CPU with bf16", never},
}

func cpuHas(what C.int) bool { return C.rr_cpu()&what != 0 }

func madeByAMD() bool { return cpuHas(C.RR_AMD) }

func always() bool { return true }
func never() bool  { return false }

// Units lists the units that kernels of this package compute on, fastest first; Forcible those that Variable may name.
var Units, Forcible = lists()

func lists() (own, all []Unit) {
	for _, u := range units {
		all = append(all, u.unit)
		if u.number >= 0 {
			own = append(own, u.unit)
		}
	}
	return own, all
}

// Check returns an error if this CPU, this operating system or this build lacks the unit.
func (u Unit) Check() error {
	if u == None {
		return nil
	}
	for _, x := range units {
		switch {
		case x.unit != u:
			continue
		case x.have():
			return nil
		}
		return errors.New(x.missing)
	}
	return fmt.Errorf("no unit %q; there are %v", u, Forcible)
}

// number is the unit's number in C.
func (u Unit) number() int64 {
	for _, x := range units {
		if x.unit == u {
			return x.number
		}
	}
	return -1
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

// AddOperators adds the operators to the options of a session. api is ONNX Runtime's OrtApi, options the OrtSessionOptions.
func AddOperators(api, options unsafe.Pointer) error {
	message := C.rr_add_operators((*C.OrtApi)(api), (*C.OrtSessionOptions)(options))
	if message == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(message))
	return errors.New(C.GoString(message))
}
