// Package disttest starts the ranks of tests.
package disttest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"rag-retrieval-go/ortrain/dist"
)

// Command returns the command that starts a program as n ranks of a job on this machine. The test is skipped where MPI is not
// set up.
func Command(t *testing.T, n int, program string, args ...string) *exec.Cmd {
	t.Helper()
	launcher, err := dist.FindLauncher()
	if err != nil {
		t.Skipf("no MPI: %v", err)
	}
	c := exec.Command(launcher, append([]string{"-n", fmt.Sprint(n), program}, args...)...)
	// Open MPI refuses root, which containers run as, and more ranks than cores.
	c.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
		"OMPI_MCA_rmaps_base_oversubscribe=1", "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe")
	return c
}
