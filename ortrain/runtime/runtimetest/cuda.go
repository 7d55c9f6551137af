// Package runtimetest decides whether tests run on CUDA. Only tests import it.
package runtimetest

import (
	"os"
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

// Variable is the environment variable that enables tests on CUDA. With "cuda" they run on a GPU. With "fake" only the tests
// run that need no GPU, on the provider that scripts/cuda/fake.sh loads, which computes nothing.
const Variable = "RAG_RETRIEVAL_TEST_PROVIDER"

const fake = "fake"

// NeedCUDA skips a test of computed numbers unless Variable is "cuda". A GPU that happens to be there does not count, so
// that the same command always runs the same tests. If Variable is "cuda" and CUDA does not work, the test fails.
func NeedCUDA(t *testing.T) {
	t.Helper()
	if os.Getenv(Variable) != runtime.CUDA {
		t.Skipf("needs a GPU: set %s=%s", Variable, runtime.CUDA)
	}
	NeedProvider(t)
}

// NeedProvider skips a test that needs the CUDA provider but no GPU, such as a test of placement or copies.
func NeedProvider(t *testing.T) {
	t.Helper()
	if !HasProvider() {
		t.Skipf("needs CUDA's provider: set %s=%s, or run scripts/cuda/fake.sh", Variable, runtime.CUDA)
	}
	if _, _, err := runtime.Resolve(runtime.CUDA, 0); err != nil {
		t.Fatal(err)
	}
}

// HasProvider says whether Variable is "cuda" or "fake".
func HasProvider() bool { return slices.Contains([]string{runtime.CUDA, fake}, os.Getenv(Variable)) }

// Computes says whether a provider computes anything. The fake CUDA provider does not.
func Computes(provider string) bool {
	return provider == runtime.CPU || os.Getenv(Variable) == runtime.CUDA
}
