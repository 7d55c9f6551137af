package kernels

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var sanitize = []string{"-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}

// buildGemm compiles testdata/PROGRAM.c with the sources of the products.
func buildGemm(t *testing.T, program string, flags ...string) string {
	t.Helper()
	sources, err := filepath.Glob("gemm*.c")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources gemm*.c: %v", err)
	}
	out := filepath.Join(t.TempDir(), program)
	arguments := append([]string{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", out}, flags...)
	arguments = append(append(arguments, filepath.Join("testdata", program+".c"), "cpu.c"), sources...)
	compile := exec.Command("cc", append(arguments, "-lm", "-lpthread")...)
	if text, err := compile.CombinedOutput(); err != nil {
		if strings.Contains(string(text), "libasan") || strings.Contains(string(text), "libubsan") {
			t.Skipf("this compiler has no sanitizers: %s", text)
		}
		t.Fatalf("%v: %v\n%s", compile, err, text)
	}
	return out
}

func runGemm(t *testing.T, program string, arguments ...string) {
	t.Helper()
	text, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("%s", text)
}

// TestGemm compares every unit that this CPU has with the exact product of the rounded inputs.
func TestGemm(t *testing.T) {
	t.Parallel()
	runGemm(t, buildGemm(t, "gemm_test", "-O2"))
}

func TestGemmSanitized(t *testing.T) {
	t.Parallel()
	runGemm(t, buildGemm(t, "gemm_test", sanitize...), "quick")
}
