package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rag-retrieval-go/internal/atomicdir"
)

// A disk that fills up while the run starts, checkpoints or saves ends in one line and no half-written folder.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{100, 300, 500, 700} { // KiB; graphs, checkpoint and model take about 1 MiB
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", size)); err != nil {
			t.Skipf("cannot mount a small file system (needs root): %v", err)
		}
		out := filepath.Join(dir, "out")
		o := call(t, "", trainRun(pairs(t, 40), out)...)
		last := strings.TrimSpace(o.stderr[strings.LastIndex(strings.TrimSpace(o.stderr), "\n")+1:])
		if o.code != 1 || !strings.Contains(last, "no space left on device") {
			t.Errorf("%d KiB: exit %d: %s", size, o.code, o.stderr)
		}
		for _, name := range []string{"model", "model" + atomicdir.TemporarySuffix, "artifacts/checkpoint/step-00000010" + atomicdir.TemporarySuffix} {
			if _, err := os.Stat(filepath.Join(out, name)); err == nil {
				t.Errorf("%d KiB: %s was left behind", size, name)
			}
		}
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}
