package kernels

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Variable is the environment variable that forces a unit: it is used wherever products are in bfloat16, also where the CPU has
// a faster one or none.
const Variable = "RAG_RETRIEVAL_BF16"

// NoUnit tells the user why products are not in bfloat16 on a CPU without a unit for it.
const NoUnit = "this CPU has no bf16 unit (AMX or AVX512-BF16), so products are in fp32, which is faster here; " +
	Variable + "=portable computes bf16 all the same, slowly"

// Forced returns the unit that Variable names, or None where it is not set. An unknown name, and a unit that is not here, is an error.
func Forced() (Unit, error) {
	u := Unit(os.Getenv(Variable))
	if u == None {
		return None, nil
	}
	if !slices.Contains(Forcible, u) {
		return None, fmt.Errorf("%s is %q, want %s", Variable, string(u), alternatives(Forcible))
	}
	if err := u.Check(); err != nil {
		return None, fmt.Errorf("%s is %s: %w; unset it, or set it to %s", Variable, u, err, Portable)
	}
	return u, nil
}

// alternatives is a list as text: "amx, avx512 or portable".
func alternatives(list []Unit) string {
	var names []string
	for _, u := range list {
		names = append(names, string(u))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Choices lists the units that this process may compute products in bfloat16 with, best first: only the forced one where one is
// forced, otherwise those of the CPU. asked says that the user asked for bfloat16; otherwise only those count that are faster, see Present.
func Choices(asked bool) ([]Unit, error) {
	forced, err := Forced()
	if err != nil {
		return nil, err
	}
	if forced != None {
		return []Unit{forced}, nil
	}
	return Present(asked), nil
}

// Present lists the units that this CPU has, best first. Without all, only those that are faster than float32, as far as is known. Portable
// is no unit of a CPU.
func Present(all bool) []Unit {
	var out []Unit
	for _, u := range units {
		if u.unit != Portable && u.have() && (all || u.faster()) {
			out = append(out, u.unit)
		}
	}
	return out
}

// Precision names the path that products take on the CPU, such as fp32 or bf16-amx. The same path, on as many threads, gives the same
// bytes.
func (u Unit) Precision() string {
	if u == None {
		return "fp32"
	}
	return "bf16-" + string(u)
}

// Describe says the same in words.
func (u Unit) Describe() string {
	switch u {
	case None:
		return "matrix products in fp32"
	case OpenVINO:
		return "matrix products in bf16 by OpenVINO"
	}
	return fmt.Sprintf("matrix products in bf16 by the CPU's unit %s", u)
}

// hasARM64 says whether this is Linux on an arm64 CPU with products of bfloat16.
func hasARM64() bool {
	if runtime.GOOS != "linux" || runtime.GOARCH != "arm64" {
		return false
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && bytes.Contains(info, []byte(" bf16"))
}
