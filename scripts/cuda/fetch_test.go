// Package cuda tests the set-up for CUDA, without a GPU and without the network.
package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
)

// The driver decides which libraries are taken; without one the user does. A dry run writes nothing.
func TestFetchDryRun(t *testing.T) {
	if goruntime.GOOS+goruntime.GOARCH != "linuxamd64" {
		t.Skip("the CUDA wheels are for Linux x86-64")
	}
	for name, c := range map[string]struct {
		driver string // what nvidia-smi prints; empty: there is none
		args   []string
		want   []string // in what is printed
		code   int
	}{
		"CUDA 13":       {"| NVIDIA-SMI 580.65   Driver Version: 580.65   CUDA Version: 13.0 |", nil, []string{"taking the libraries of CUDA 13", "onnxruntime-gpu==1.31.1", "nvidia-cudnn-cu13=="}, 0},
		"CUDA 14":       {"| NVIDIA-SMI 700.1   CUDA UMD Version: 14.1 |", nil, []string{"taking the libraries of CUDA 13"}, 0},
		"CUDA 12":       {"| NVIDIA-SMI 550.54   Driver Version: 550.54   CUDA Version: 12.4 |", nil, []string{"taking the libraries of CUDA 12", "onnxruntime-gpu==1.26.0", "nvidia-cudnn-cu12=="}, 0},
		"overridden":    {"| CUDA Version: 13.0 |", []string{"12"}, []string{"onnxruntime-gpu==1.26.0"}, 0},
		"no driver, 13": {"", []string{"13", "--no-nvidia"}, []string{"onnxruntime-gpu==1.31.1"}, 0},
		"old driver":    {"| CUDA Version: 11.8 |", nil, []string{"the driver runs CUDA 11, want 12 or newer"}, 1},
		"no driver":     {"", nil, []string{"no NVIDIA driver here (nvidia-smi is missing)", "--cuda=12 or --cuda=13"}, 1},
		"wrong number":  {"", []string{"11"}, []string{"unknown argument 11"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			home, bin := filepath.Join(t.TempDir(), "home"), t.TempDir()
			for _, tool := range []string{"bash", "dirname", "uname", "sed", "grep", "head", "rm"} {
				path, err := exec.LookPath(tool)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			if c.driver != "" {
				script := "#!/bin/bash\necho '" + c.driver + "'\n"
				if err := os.WriteFile(filepath.Join(bin, "nvidia-smi"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("./fetch.sh", append(c.args, "--dry-run")...)
			cmd.Env = []string{"PATH=" + bin, "RAG_RETRIEVAL_HOME=" + home}
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not in: %s", want, out)
				}
			}
			if c.code == 0 != strings.Contains(string(out), "libonnxruntime.so") {
				t.Errorf("the library's path: %s", out)
			}
			if strings.Contains(strings.Join(c.args, " "), "--no-nvidia") && strings.Contains(string(out), "nvidia-c") {
				t.Errorf("NVIDIA's libraries with --no-nvidia: %s", out)
			}
			if _, err := os.Stat(home); err == nil {
				t.Error("a dry run made the cache folder")
			}
		})
	}
}
