package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// rankProcess finds the process of a rank of the job whose environment has a mark. It is 0 if there is none.
func rankProcess(mark string, rank int) int {
	found := map[int]int{} // parents by process
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte(mark)) {
			continue
		}
		for _, variable := range []string{"PMI_RANK", "OMPI_COMM_WORLD_RANK"} {
			if !bytes.Contains(b, fmt.Appendf(nil, "\x00%s=%d\x00", variable, rank)) {
				continue
			}
			stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
			if err != nil {
				continue
			}
			fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			found[pid], _ = strconv.Atoi(string(fields[1]))
		}
	}
	for pid, parent := range found {
		if _, child := found[parent]; !child { // a rank has a child that prints its last words
			return pid
		}
	}
	return 0
}

// breakJob starts a job of two ranks and sends a signal to a rank once it has written two checkpoints. It returns what
// the job printed; the job must fail within 30 seconds.
func breakJob(t *testing.T, dir string, rank int, signal syscall.Signal, args ...string) string {
	t.Helper()
	c := disttest.Command(t, 2, os.Args[0], args...)
	mark := "RAG_RETRIEVAL_TEST_JOB=" + t.TempDir()
	c.Env = append(c.Env, asProgram+"=1", mark)
	c.WaitDelay = time.Minute
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	begun := checkpointStep(newestCheckpoint(dir))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for checkpointStep(newestCheckpoint(dir)) < begun+2*stepsOfCheckpoint {
		select {
		case err := <-ended:
			t.Fatalf("the job ended early: %v: %s", err, out.String())
		case <-time.After(time.Millisecond):
		}
	}
	pid := rankProcess(mark, rank)
	if pid == 0 {
		t.Fatalf("rank %d is not found: %s", rank, out.String())
	}
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	select {
	case err := <-ended:
		if !errors.As(err, &exit) {
			t.Errorf("the job ends with %v: %s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("the job does not end: %v: %s", <-ended, out.String())
	}
	for r := range 2 {
		pid := rankProcess(mark, r)
		for end := time.Now().Add(5 * time.Second); pid != 0 && time.Now().Before(end); pid = rankProcess(mark, r) { // it may be about to end
			time.Sleep(10 * time.Millisecond)
		}
		if pid != 0 {
			t.Errorf("rank %d is still there as process %d", r, pid)
		}
	}
	return out.String()
}

// stepsOfCheckpoint is how many steps the jobs do from one checkpoint to the next.
const stepsOfCheckpoint = 5

// checkpointStep is the step of a checkpoint; 0 if there is none.
func checkpointStep(path string) int {
	_, digits, _ := strings.Cut(filepath.Base(path), "-")
	step, _ := strconv.Atoi(digits)
	return step
}

func newestCheckpoint(dir string) string {
	all, _ := filepath.Glob(filepath.Join(dir, "artifacts", "checkpoint", "step-????????"))
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// A job that loses a rank, by its death or its silence, ends with the rank's name and its last whole checkpoint. Resumed, it is
// the job that never stopped, byte for byte.
func TestRanksLoseOne(t *testing.T) {
	rows, base := write(t, "rows.jsonl", rerankerRows(21)), filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker")
	args := func(dir string, more ...string) []string {
		return append([]string{"train", "reranker", "--model", base, "--train-dataset", rows, "--output-dir", dir, "--batch-size", "4",
			"--max-len", "16", "--dropout", "0.1", "--epochs", "100", "--lr", "1e-3", "--threads", "1", "--save-steps", fmt.Sprint(stepsOfCheckpoint)}, more...)
	}
	whole, broken := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "broken")
	mpirun(t, 2, args(whole)...).ok(t)
	t.Setenv(dist.SilenceVariable, "4") // MPI may take seconds to start on a busy machine
	var more []string
	for _, x := range []struct {
		rank   int
		signal syscall.Signal
		says   string
	}{
		{1, syscall.SIGKILL, `rank 1 of 2 on host \S+ \(process \d+\) died; `},
		{1, syscall.SIGSTOP, `rank 1 of 2 on host \S+ has been silent for \ds, since \S+ UTC: all ranks end; `},
		{0, syscall.SIGKILL, `rank 0 of 2 on host \S+ \(process \d+\) died; `},
		{0, syscall.SIGSTOP, `rank 0 of 2 on host \S+ has been silent for \ds, since \S+ UTC: all ranks end; `},
	} {
		out := breakJob(t, broken, x.rank, x.signal, args(broken, more...)...)
		if n := len(regexp.MustCompile(x.says).FindAllString(out, -1)); n != 1 {
			t.Errorf("want %q once, it is there %d times: %s", x.says, n, out)
		}
		at := regexp.MustCompile(`the last whole checkpoint is (\S+), of step (\d+): `).FindStringSubmatch(out)
		if at == nil {
			t.Fatalf("no checkpoint is named: %s", out)
		}
		// Rank 0 may have written one more that the other does not know of.
		step, newest := checkpointStep(at[1]), checkpointStep(newestCheckpoint(broken))
		if fmt.Sprint(step) != at[2] || step > newest || step < newest-stepsOfCheckpoint {
			t.Errorf("it says %q, the newest is of step %d", at, newest)
		}
		more = []string{"--resume"}
	}
	mpirun(t, 2, args(broken, "--resume")...).ok(t)
	a, err := os.ReadFile(filepath.Join(whole, "model", hf.SafetensorsFile))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(broken, "model", hf.SafetensorsFile))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the resumed job's weights differ, %v", err)
	}
	if a, b := losses(t, whole), losses(t, broken); len(a) != len(b) {
		t.Errorf("%d steps are logged, want %d", len(b), len(a))
	}
}
