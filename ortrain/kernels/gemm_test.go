package kernels_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
)

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

// BenchmarkGemm measures the units that this CPU has, at the shapes of MiniLM and of BERT's base size:
//
//	go test -run '^$' -bench Gemm ./ortrain/kernels
func BenchmarkGemm(b *testing.B) {
	program := compile(b, "gemm_bench.c", gemmSources, "-O2")
	for _, unit := range kernels.Units {
		if unit.Check() != nil {
			continue
		}
		for _, product := range []struct {
			kind           string
			m, k, n, batch int
		}{
			{"product", 1200, 384, 1152, 1}, {"packed", 1200, 384, 1152, 1},
			{"product", 1200, 384, 1536, 1}, {"packed", 1200, 384, 1536, 1},
			{"product", 1200, 1536, 384, 1}, {"packed", 1200, 1536, 384, 1},
			{"product", 4096, 768, 3072, 1}, {"packed", 4096, 768, 3072, 1},
			{"product", 4096, 3072, 768, 1}, {"packed", 4096, 3072, 768, 1},
			{"transposed", 1536, 1200, 384, 1}, {"gradient", 1200, 384, 1536, 1}, {"gradient", 4096, 768, 3072, 1},
			{"product", 128, 32, 128, 768}, {"product", 128, 128, 32, 768},
		} {
			name := fmt.Sprintf("%s/%s/%dx%dx%dx%d", unit, product.kind, product.batch, product.m, product.k, product.n)
			b.Run(name, func(b *testing.B) {
				operations := 2 * float64(product.m) * float64(product.k) * float64(product.n) * float64(product.batch)
				if product.kind == "gradient" {
					operations *= 2
				}
				arguments := []string{string(unit), product.kind}
				for _, n := range []int{product.m, product.k, product.n, product.batch, runtime.NumCPU(), b.N} {
					arguments = append(arguments, strconv.Itoa(n))
				}
				seconds, err := strconv.ParseFloat(strings.TrimSpace(runProgram(b, program, arguments...)), 64)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(operations/seconds/1e9, "GFLOP/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
