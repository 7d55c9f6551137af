// Package runtimetest says which provider tests run on.
package runtimetest

import (
	"os"
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

// Variable is the environment variable that has tests run on CUDA too, where it is "cuda"; or, where it is "fake", those
// that hold without a GPU, on the provider that scripts/cuda/fake.sh loads: nothing is computed there.
const Variable = "RAG_RETRIEVAL_TEST_PROVIDER"

const fake = "fake"

// NeedCUDA skips a test of numbers unless Variable asks for CUDA: a GPU that is found by chance must not change what a
// run of the tests means. Where it is asked for and does not work, the test fails.
func NeedCUDA(t *testing.T) {
	t.Helper()
	if os.Getenv(Variable) != runtime.CUDA {
		t.Skipf("needs a GPU: set %s=%s", Variable, runtime.CUDA)
	}
	NeedProvider(t)
}

// NeedProvider skips a test of what needs CUDA's provider but no GPU, such as placement and copies.
func NeedProvider(t *testing.T) {
	t.Helper()
	if !HasProvider() {
		t.Skipf("needs CUDA's provider: set %s=%s, or run scripts/cuda/fake.sh", Variable, runtime.CUDA)
	}
	if _, _, err := runtime.Resolve(runtime.CUDA); err != nil {
		t.Fatal(err)
	}
}

// HasProvider says whether CUDA's provider is asked for, on a GPU or without one.
func HasProvider() bool { return slices.Contains([]string{runtime.CUDA, fake}, os.Getenv(Variable)) }

// Computes says whether a provider computes: CUDA's does on a GPU alone.
func Computes(provider string) bool {
	return provider == runtime.CPU || os.Getenv(Variable) == runtime.CUDA
}
