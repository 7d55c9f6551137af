package kernels_test

import (
	"testing"

	"rag-retrieval-go/ortrain/kernels"
)

// rowsSources are the C files that testdata/rows_test.c tests.
var rowsSources = []string{"activation.c", "adamw.c", "gather.c", "norm.c", "quantize.c", "softmax.c"}

// TestRows compares rows.h and adamw.h with double arithmetic, on each set of vector instructions that this CPU has.
func TestRows(t *testing.T) {
	t.Parallel()
	t.Log(runProgram(t, compile(t, "rows_test.c", rowsSources, "-O2", "-Wall", "-Wextra", "-Werror")))
}

// TestRowsSimulated also runs the code for AVX-512 on any CPU with AVX2, with plain C in place of its instructions, under sanitizers.
func TestRowsSimulated(t *testing.T) {
	t.Parallel()
	if kernels.Vectors() == "portable" {
		t.Skip("this CPU has no AVX2")
	}
	t.Log(runProgram(t, compile(t, "rows_test.c", rowsSources, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
		"-DRR_SIMULATE", "-Wno-psabi"), "avx512"))
}
