package kernels

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The variable forces a unit that is here. It is an error where it names one that is not, or none at all.
func TestForced(t *testing.T) {
	missing := func(u Unit) string {
		if u.Check() == nil {
			return ""
		}
		return Variable + " is " + string(u) + ": " + u.Check().Error()
	}
	for value, want := range map[string]string{
		"": "", "portable": "", "amx": missing(AMX), "avx512": missing(AVX512), "arm64": missing(ARM64),
		"AMX": `RAG_RETRIEVAL_BF16 is "AMX", want amx, avx512, portable or arm64`, "yes": `is "yes", want`,
	} {
		t.Setenv(Variable, value)
		u, err := Forced()
		if want == "" && (err != nil || string(u) != value) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %q, %v, want %q", value, u, err, want)
		}
	}
}

// A forced unit is the only choice. Otherwise the choices are the CPU's units, of which auto takes those that are known to be faster.
func TestChoices(t *testing.T) {
	t.Setenv(Variable, "portable")
	for _, asked := range []bool{true, false} {
		if got, err := Choices(asked); err != nil || !slices.Equal(got, []Unit{Portable}) {
			t.Errorf("forced: %v, %v", got, err)
		}
	}
	t.Setenv(Variable, "")
	got, err := Choices(false)
	if err != nil || slices.Contains(got, Portable) || slices.Contains(got, ARM64) {
		t.Errorf("%v, %v", got, err)
	}
	if all, err := Choices(true); err != nil || !slices.Equal(all, Present(true)) || slices.Contains(all, Portable) {
		t.Errorf("%v, %v; this CPU has %v", all, err, Present(true))
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil && runtime.GOARCH == "amd64" {
		amd := bytes.Contains(info, []byte("AuthenticAMD"))
		if slices.Contains(got, AVX512) != (amd && AVX512.Check() == nil) {
			t.Errorf("auto takes %v, and AVX512-BF16 is faster than float32 on AMD's CPUs only (this is one: %v)", got, amd)
		}
	}
	t.Setenv(Variable, "pancake")
	if _, err := Choices(true); err == nil {
		t.Error("no error for an unknown unit")
	}
}

func TestPrecision(t *testing.T) {
	for u, want := range map[Unit]string{None: "fp32", AMX: "bf16-amx", AVX512: "bf16-avx512", Portable: "bf16-portable", ARM64: "bf16-arm64"} {
		if got := u.Precision(); got != want {
			t.Errorf("%q: %s, want %s", u, got, want)
		}
	}
}
