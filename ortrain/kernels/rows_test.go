package kernels_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// rowsSources are the C files that testdata/rows_test.c tests.
var rowsSources = []string{"activation.c", "adamw.c", "norm.c", "quantize.c", "softmax.c"}

// compile compiles a C program of testdata with kernels, and returns the path of the program. Tests cannot use cgo.
func compile(t testing.TB, program string, sources []string, flags ...string) string {
	t.Helper()
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		t.Skipf("no C compiler: %v", err)
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(program, ".c"))
	args := append([]string{"-g", filepath.Join("testdata", program), "-o", out}, flags...)
	args = append(append(args, sources...), "-lm", "-lpthread")
	if text, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		if strings.Contains(strings.Join(flags, " "), "-fsanitize") {
			t.Skipf("%s cannot link with %v: %v", cc, flags, err)
		}
		t.Fatalf("%s %v: %v\n%s", cc, args, err, text)
	}
	return out
}

// TestRows runs the tests in C of rows.h and adamw.h, on each set of vector instructions that this CPU has.
func TestRows(t *testing.T) {
	for name, flags := range map[string][]string{
		"optimized":  {"-O2"},
		"sanitizers": {"-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(compile(t, "rows_test.c", rowsSources, flags...)).CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
