package dist

import (
	"fmt"
	"testing"
)

// Ranks divide the cores that they share, and use all of those that only they have.
func TestThreads(t *testing.T) {
	place := func(host string, cores ...int) Place { return Place{Host: host, Cores: cores} }
	for name, c := range map[string]struct {
		places []Place
		want   []int
	}{
		"alone":                 {[]Place{place("a", 0, 1, 2, 3)}, []int{4}},
		"not bound":             {[]Place{place("a", 0, 1, 2, 3), place("a", 0, 1, 2, 3)}, []int{2, 2}},
		"bound to cores":        {[]Place{place("a", 0), place("a", 1)}, []int{1, 1}},
		"bound to sockets":      {[]Place{place("a", 0, 1, 2, 3), place("a", 4, 5, 6, 7), place("a", 0, 1, 2, 3), place("a", 4, 5, 6, 7)}, []int{2, 2, 2, 2}},
		"part of a machine":     {[]Place{place("a", 8, 9), place("a", 8, 9)}, []int{1, 1}},
		"more ranks than cores": {[]Place{place("a", 0, 1), place("a", 0, 1), place("a", 0, 1)}, []int{1, 1, 1}},
		"two hosts":             {[]Place{place("a", 0, 1), place("b", 0, 1, 2, 3), place("b", 0, 1, 2, 3)}, []int{2, 2, 2}},
		"all on one core":       {[]Place{place("a", 0), place("a", 0)}, []int{1, 1}},
	} {
		var got []int
		for rank := range c.places {
			got = append(got, Threads(c.places, rank))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// The innermost launcher counts: mpirun within a Slurm job starts its own helpers with srun.
func TestLaunched(t *testing.T) {
	for name, c := range map[string]struct {
		env      map[string]string
		size     int
		launcher string
	}{
		"none":                              {nil, 1, ""},
		"mpirun of MPICH":                   {map[string]string{"PMI_SIZE": "2"}, 2, "MPICH, Intel MPI or srun --mpi=pmi2"},
		"mpirun of Open MPI, Kubeflow":      {map[string]string{"OMPI_COMM_WORLD_SIZE": "8"}, 8, "Open MPI"},
		"srun":                              {map[string]string{"SLURM_STEP_NUM_TASKS": "4"}, 4, "srun"},
		"srun with pmi2":                    {map[string]string{"SLURM_STEP_NUM_TASKS": "4", "PMI_SIZE": "4"}, 4, "MPICH, Intel MPI or srun --mpi=pmi2"},
		"srun of one task":                  {map[string]string{"SLURM_STEP_NUM_TASKS": "1"}, 1, ""},
		"a command in a batch file":         {map[string]string{"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, 1, ""},
		"mpirun of MPICH on two hosts":      {map[string]string{"SLURM_STEP_NUM_TASKS": "2", "PMI_SIZE": "8"}, 8, "MPICH, Intel MPI or srun --mpi=pmi2"},
		"mpirun -n 1 in a job of two hosts": {map[string]string{"SLURM_STEP_NUM_TASKS": "2", "PMI_SIZE": "1"}, 1, ""},
		"no number":                         {map[string]string{"PMI_SIZE": "x"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, l := range launchers {
				t.Setenv(l.variable, "")
			}
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if size, launcher := Launched(); size != c.size || launcher != c.launcher {
				t.Errorf("%d by %q, want %d by %q", size, launcher, c.size, c.launcher)
			}
		})
	}
}
