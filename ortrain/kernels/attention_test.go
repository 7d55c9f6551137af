package kernels_test

import (
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
)

// attentionSources are the C files that testdata/attention_test.c tests.
var attentionSources = append(slices.Clone(gemmSources), "attention.c")

// TestAttention compares attention and its gradient with double arithmetic, in float32 and in bfloat16 on the units of this CPU.
func TestAttention(t *testing.T) {
	t.Parallel()
	t.Log(runProgram(t, compile(t, "attention_test.c", attentionSources, "-O2", "-Wall", "-Wextra", "-Werror")))
}

// TestAttentionSimulated runs all units on any CPU, under sanitizers, see TestGemmSimulated.
func TestAttentionSimulated(t *testing.T) {
	t.Parallel()
	if kernels.Vectors() == "portable" {
		t.Skip("this CPU has no AVX2")
	}
	t.Log(runProgram(t, compile(t, "attention_test.c", attentionSources, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
		"-DRR_SIMULATE", "-Wno-psabi")))
}
