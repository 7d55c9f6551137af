package dist

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// launchers has, for each way to start MPI programs, the environment variable with the number of ranks. In a Slurm job, the
// mpirun of MPICH and Open MPI starts a helper on each host with srun, whose variable the ranks see too: srun is the last.
var launchers = []struct{ variable, name string }{
	{"OMPI_COMM_WORLD_SIZE", "Open MPI"},
	{"PMI_SIZE", "MPICH, Intel MPI or srun --mpi=pmi2"},
	{"MV2_COMM_WORLD_SIZE", "MVAPICH"},
	{"SLURM_STEP_NUM_TASKS", "srun"},
}

// Launched is the number of ranks that a launcher started this process with, and the launcher's name; 1 and "" where none did,
// or where it started only this one.
func Launched() (size int, launcher string) {
	for _, l := range launchers {
		n, err := strconv.Atoi(os.Getenv(l.variable))
		if err == nil && n > 1 {
			return n, l.name
		}
		if err == nil {
			break
		}
	}
	return 1, ""
}

// Connect joins the job that a launcher started this process in. A process that no launcher started is Alone, and loads no
// MPI. It is an error if MPI sees another number of ranks than the launcher started: then the launcher is not the library's.
func Connect() (Comm, error) {
	size, launcher := Launched()
	if size == 1 {
		return Alone{}, nil
	}
	limit, err := silence()
	if err != nil {
		return nil, err
	}
	path, err := FindLibrary()
	if err != nil {
		return nil, fmt.Errorf("started by %s as one of %d ranks: %w", launcher, size, err)
	}
	words := C.rr_words_start()
	late := time.AfterFunc(limit, func() { notAllCome(size, limit) })
	m, err := openMPI(path)
	late.Stop()
	if err != nil {
		return nil, fmt.Errorf("started by %s as one of %d ranks: %w", launcher, size, err)
	}
	if m.size != size {
		return nil, fmt.Errorf("started by %s as one of %d ranks, but %s sees %d: %s", launcher, size, m.version, m.size, otherLauncher())
	}
	m.heartbeat, err = startHeartbeat(m, limit, words)
	return m, err
}

// localRanks are the environment variables with the number of a rank on its host, by launcher.
var localRanks = []string{"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}

// notAllCome ends a process that has waited in MPI_Init for other ranks. MPICH's launcher lets it wait for ever if one of them
// fails before its own MPI_Init.
func notAllCome(size int, waited time.Duration) {
	for _, name := range localRanks {
		if x := os.Getenv(name); x != "" && x != "0" {
			time.Sleep(time.Second) // one rank of the host is enough to say it
			break
		}
	}
	host, _ := os.Hostname()
	fmt.Fprintf(os.Stderr, "rag-retrieval: on host %s, MPI_Init has waited %v for all of %d ranks: one has failed before, and says why, or its host cannot "+
		"be reached; if they need longer to start, set %s to more seconds\n", host, waited, size, SilenceVariable)
	time.Sleep(300 * time.Millisecond) // for the launcher to read it
	os.Exit(1)
}

// Leave ends this rank's part in a job whose work ended with err, and returns how the process ends. If all ranks have come to
// the same end, by success or by Agree, they leave together, so that the launcher does not end one that has still to say why.
// After another error the process must end: the others may wait for it in an operation.
func Leave(c Comm, err error) error {
	var agreed *RankError
	switch {
	case c.Size() == 1:
		return err
	case err == nil:
		return c.Close()
	case errors.As(err, &agreed):
		agreed.Quiet = agreed.Quiet || agreed.Rank != c.Rank()
		if m, ok := c.(*mpi); ok {
			late := time.AfterFunc(m.heartbeat.limit, func() { m.heartbeat.end(err.Error()) })
			defer late.Stop()
		}
		return errors.Join(err, c.Close())
	}
	C.rr_words_end()
	return &RankError{Rank: c.Rank(), Err: err}
}

// otherLauncher says what to do if the launcher does not belong to the MPI library.
func otherLauncher() string {
	own := "start it with that library's own mpirun"
	if os.Getenv("SLURM_STEP_ID") != "" {
		own += ", or with srun --mpi=pmi2 (MPICH, Intel MPI) or srun --mpi=pmix (Open MPI)"
	}
	return own + ", or run scripts/setup.sh --mpi with the launcher's mpicc first in PATH"
}

// LauncherVariable is the environment variable with the path of an mpirun to use instead of the installed one.
const LauncherVariable = "RAG_RETRIEVAL_MPIRUN"

// FindLauncher returns the path of the mpirun that belongs to the shim library: setup.sh links it beside the library.
func FindLauncher() (string, error) {
	if p := os.Getenv(LauncherVariable); p != "" {
		return exec.LookPath(p)
	}
	library, err := FindLibrary()
	if err != nil {
		return "", err
	}
	return exec.LookPath(filepath.Join(filepath.Dir(library), "mpirun"))
}
