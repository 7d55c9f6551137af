package kernels_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

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
	for _, p := range append([]string{filepath.Join("testdata", program), filepath.Join("testdata", "simulate.h"), filepath.Join("testdata", "threads.h")}, sources...) {
		if _, err := os.ReadFile(p); err != nil { // so that go test runs again when the file has changed
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(program, ".c"))
	if strings.Contains(strings.Join(flags, " "), "-fsanitize") {
		checkSanitizers(t, cc, out, flags)
	}
	args := append([]string{"-g", filepath.Join("testdata", program), "-o", out}, flags...)
	args = append(append(args, sources...), "-lm", "-lpthread")
	if text, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", cc, args, err, text)
	}
	return out
}

// checkSanitizers skips the test where no program links with the flags: some compilers come without sanitizers.
func checkSanitizers(t testing.TB, cc, out string, flags []string) {
	t.Helper()
	c := exec.Command(cc, append(slices.Clone(flags), "-x", "c", "-", "-o", out)...)
	c.Stdin = strings.NewReader("int main(void) { return 0; }\n")
	if text, err := c.CombinedOutput(); err != nil {
		t.Skipf("%s cannot link with %v: %v\n%s", cc, flags, err, text)
	}
}

// runProgram runs a compiled program and returns what it printed.
func runProgram(t testing.TB, program string, arguments ...string) string {
	t.Helper()
	text, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return string(text)
}
