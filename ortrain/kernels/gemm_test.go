package kernels_test

import "testing"

// gemmSources are the C files that testdata/gemm_test.c tests.
var gemmSources = []string{"gemm.c", "gemm_amx.c", "gemm_avx512.c", "gemm_gradient.c", "gemm_parts.c", "gemm_portable.c", "cpu.c"}

// TestGemm compares every unit that this CPU has with the exact product of the rounded inputs.
func TestGemm(t *testing.T) {
	t.Parallel()
	t.Log(runProgram(t, compile(t, "gemm_test.c", gemmSources, "-O2", "-Wall", "-Wextra", "-Werror"), "quick"))
}

// TestGemmSimulated runs all units on any CPU, under sanitizers where the compiler has them: testdata/simulate.h has plain C in place of
// the instructions of AVX-512 and AMX. It does not test the instructions themselves.
func TestGemmSimulated(t *testing.T) {
	t.Parallel()
	t.Log(runProgram(t, compile(t, "gemm_test.c", gemmSources, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
		"-DRR_SIMULATE", "-Wno-psabi"), "quick", "portable", "avx512", "amx"))
}
