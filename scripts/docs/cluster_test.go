package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The cluster files are shell and YAML without mistakes of form, mark what a user has to change, and their training commands have
// flags that the program knows.
func TestClusterFiles(t *testing.T) {
	w := needWorkshop(t)
	dir := filepath.Join(root, "scripts", "cluster")
	help, err := exec.Command(filepath.Join(w.dir, "bin", "rag-retrieval"), "train", "embedding", "--help").CombinedOutput()
	check(t, err)
	for _, name := range []string{"slurm.sbatch", "mpirun.sh", "hostfile", "mpijob.yaml", "Dockerfile"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		text := string(b)
		if !strings.Contains(text, "CHANGE") {
			t.Errorf("%s marks no line that a user has to change", name)
		}
		if name == "slurm.sbatch" || name == "mpirun.sh" {
			if out, err := exec.Command("bash", "-n", filepath.Join(dir, name)).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		}
		if name == "Dockerfile" || name == "hostfile" {
			continue
		}
		_, settings, _ := strings.Cut(text, "rag-retrieval train")
		for _, line := range strings.Split(text, "\n") { // the settings of shell files stand before the command
			if strings.HasPrefix(line, "  embedding ") || strings.HasPrefix(line, "  --") {
				settings += line + " "
			}
		}
		flags := regexp.MustCompile(`--[a-z-]+`).FindAllString(settings, -1)
		if len(flags) < 5 {
			t.Errorf("%s: %d flags of a training command, want at least 5: %q", name, len(flags), settings)
		}
		for _, flag := range flags {
			if !strings.Contains(string(help), flag+" ") && !strings.Contains(string(help), flag+",") && !strings.Contains(string(help), flag+"\n") {
				t.Errorf("%s: train has no flag %s", name, flag)
			}
		}
	}
}

// The MPIJob has a launcher and workers of one image, and starts as many ranks as the workers have slots.
func TestMPIJob(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "scripts", "cluster", "mpijob.yaml"))
	check(t, err)
	var job struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Spec       struct {
			Slots    int `yaml:"slotsPerWorker"`
			Replicas map[string]struct {
				Replicas int
				Template struct {
					Spec struct {
						Containers []struct {
							Image  string
							Args   []string
							Mounts []struct{ Name string } `yaml:"volumeMounts"`
						}
						Volumes []struct{ Name string }
					}
				}
			} `yaml:"mpiReplicaSpecs"`
		}
	}
	check(t, yaml.Unmarshal(b, &job))
	launcher, worker := job.Spec.Replicas["Launcher"], job.Spec.Replicas["Worker"]
	if job.APIVersion != "kubeflow.org/v2beta1" || job.Kind != "MPIJob" || launcher.Replicas != 1 || len(job.Spec.Replicas) != 2 {
		t.Fatalf("%+v", job)
	}
	a, c := launcher.Template.Spec, worker.Template.Spec
	if a.Containers[0].Image != c.Containers[0].Image || !slices.Equal(a.Volumes, c.Volumes) || len(c.Containers[0].Mounts) != len(c.Volumes) {
		t.Errorf("launcher and workers differ: %+v, %+v", a, c)
	}
	n := regexp.MustCompile(`mpirun -n (\d+)`).FindStringSubmatch(a.Containers[0].Args[0])
	if want := worker.Replicas * job.Spec.Slots; len(n) != 2 || n[1] != "8" || want != 8 {
		t.Errorf("mpirun starts %q ranks, the workers have %d slots", n, want)
	}
	if out, err := exec.Command("bash", "-n", "-c", a.Containers[0].Args[0]).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// mpirun.sh starts the ranks that its hostfile names, with the arguments of the mpirun that is there.
func TestMpirunScript(t *testing.T) {
	w := needWorkshop(t)
	for says, want := range map[string]string{
		"HYDRA build details": "-f HOSTS -n 6 bin/rag-retrieval train embedding",
		"mpirun (Open MPI) 4": "--hostfile HOSTS -n 6 --bind-to none bin/rag-retrieval train embedding",
	} {
		dir := w.folder(t)
		hosts, calls := filepath.Join(dir, "hosts"), filepath.Join(dir, "calls")
		check(t, os.WriteFile(hosts, []byte("# a comment\n\nnode1:4  # CHANGE\nnode2:2\n"), 0o644))
		check(t, os.MkdirAll(filepath.Join(dir, ".rag-retrieval", "lib"), 0o755))
		mpirun := "#!/bin/sh\n[ \"$1\" != --version ] || { echo '" + says + "'; exit; }\necho \"$*\" >>" + calls + "\ncat \"$2\" >>" + calls + "\n"
		check(t, os.WriteFile(filepath.Join(dir, ".rag-retrieval", "lib", "mpirun"), []byte(mpirun), 0o755))
		// The script goes to the folder it lies in: a copy, where the workshop's folder has a link.
		script, err := os.ReadFile(filepath.Join(root, "scripts", "cluster", "mpirun.sh"))
		check(t, err)
		copied := filepath.Join(dir, "a", "b", "mpirun.sh")
		check(t, os.MkdirAll(filepath.Dir(copied), 0o755))
		check(t, os.WriteFile(copied, script, 0o755))
		if out, err := w.run(dir, copied+" "+hosts); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(calls)
		check(t, err)
		got := regexp.MustCompile(`/\S*/tmp\.\S+`).ReplaceAllString(string(b), "HOSTS")
		if !strings.Contains(got, want) || strings.Count(got, "HOSTS -n 6") != 2 {
			t.Errorf("%s: %s", says, got)
		}
		line := "node1:4"
		if strings.Contains(says, "Open") {
			line = "node1 slots=4"
		}
		if !strings.Contains(got, line+"\n") || strings.Contains(got, "CHANGE") {
			t.Errorf("%s: the hosts are written as %s", says, got)
		}
	}
}
