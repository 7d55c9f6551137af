package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rag-retrieval-go/internal/filelock"
)

// running starts the program, and ends it with the test; it waits until ready says that it has come far enough.
func running(t *testing.T, env []string, ready func() bool, args ...string) *exec.Cmd {
	t.Helper()
	c := program(env, args...)
	var b bytes.Buffer
	c.Stderr = &b
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	for begun := time.Now(); !ready(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			_, _ = c.Process.Kill(), c.Wait()
			t.Fatalf("not ready: %s", b.String())
		}
	}
	return c
}

// The second run in a folder ends with one line that names the first, which goes on; after kill -9 the folder is free.
func TestTwoRunsInOneFolder(t *testing.T) {
	data, out := pairs(t, 203), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out, "--epochs", "2000", "--save-steps", "1")
	checkpoints := filepath.Join(out, "artifacts", "checkpoint", "step-????????")
	first := running(t, nil, func() bool { found, _ := filepath.Glob(checkpoints); return len(found) > 1 }, args...)
	holder := fmt.Sprintf("output_dir %s is in use by process %d on ", out, first.Process.Pid)
	call(t, "", args...).fails(t, 1, holder)
	call(t, "", append(args, "--resume")...).fails(t, 1, holder)
	artifacts := []string{"artifacts", "embedding", "--model", tiny, "--output-dir", out, "--query-max-len", "10", "--passage-max-len", "12"}
	call(t, "", artifacts...).fails(t, 1, holder)
	if err := first.Process.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	call(t, "", append(args, "--resume", "--max-steps", "2")...).fails(t, 1, "max_steps was 0, is 2")
	if _, err := os.Stat(filepath.Join(out, "config.yaml")); err != nil {
		t.Error(err)
	}
}

// A refused run leaves nothing in a folder that is not its own.
func TestRefusedRunLeavesNothing(t *testing.T) {
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, "", trainRun(pairs(t, 40), out)...).fails(t, 1, "is not empty: name a new folder\n")
	call(t, "", trainRun(pairs(t, 40), out, "--resume")...).fails(t, 1, "no checkpoint in", ": start without --resume, in a new folder")
	call(t, "", trainRun(pairs(t, 40), out+"/none", "--resume")...).fails(t, 1, "no checkpoint in")
	if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// The second evaluation of a model on the same data says that it keeps no journal, and scores; so does the first.
func TestTwoEvaluations(t *testing.T) {
	model, _ := trained(t, "embedding")
	var text strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, `{"query":"如何%[1]d","positive":["密码 %[1]d"],"negative":["水果 %[1]d","苹果 设置 %[1]d","页面"]}`+"\n", i)
	}
	rows, home := write(t, "rows.jsonl", text.String()), t.TempDir()
	env := []string{"RAG_RETRIEVAL_HOME=" + home}
	journals := filepath.Join(home, "scores", "*.jsonl")
	first := running(t, env, func() bool { found, _ := filepath.Glob(journals); return len(found) == 1 }, "eval", "--model", model, "--data", rows)
	pause := func(s syscall.Signal) { // the first must not end before the second has begun
		if err := first.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	pause(syscall.SIGSTOP)
	o := callEnv(t, env, "", "eval", "--model", model, "--data", rows)
	pause(syscall.SIGCONT)
	if want := fmt.Sprintf("keeps its scores already: process %d on ", first.Process.Pid); o.code != 0 || !strings.Contains(o.stderr, want) {
		t.Errorf("the second: exit %d, want %q in %s", o.code, want, o.stderr)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(home, "scores")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// waitsFor holds a lock, starts the program, and gives the lock back when the program has said that it waits for it.
func waitsFor(t *testing.T, env []string, lock, what string, args ...string) {
	t.Helper()
	l, err := filelock.Try(lock)
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	c := program(env, args...)
	c.Stderr = said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		b, _ := os.ReadFile(said.Name())
		if strings.Contains(string(b), fmt.Sprintf("waiting for process %d on ", os.Getpid())) && strings.Contains(string(b), what) {
			break
		}
		if time.Since(begun) > time.Minute {
			_, _ = c.Process.Kill(), c.Wait()
			t.Fatalf("does not wait for %s: %s", lock, b)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		b, _ := os.ReadFile(said.Name())
		t.Errorf("%v: %s", err, b)
	}
	if _, err := os.Stat(lock); err == nil {
		t.Errorf("%s is still there", lock)
	}
}

// A part of the cache that another process makes is waited for: an index, an unpacked file, a model of the hub.
func TestWaitsForTheCache(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	env := []string{"RAG_RETRIEVAL_HOME=" + home}
	if err := os.CopyFS(dir, os.DirFS(fixtures+"xlmr")); err != nil {
		t.Fatal(err)
	}
	hubOf(t, dir)
	text, err := os.ReadFile(pairs(t, 40))
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(text); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	data := write(t, "pairs.jsonl.gz", zipped.String())
	dry := trainRun(data, filepath.Join(t.TempDir(), "out"), "--dry-run")
	callEnv(t, env, "", dry...).ok(t)
	for _, x := range [][2]string{{"indices/*.index", "the index of "}, {"unpacked/*/pairs.jsonl", "unpacking " + data}} {
		made, err := filepath.Glob(filepath.Join(home, x[0]))
		if err != nil || len(made) != 1 {
			t.Fatalf("%s: %v %v", x[0], made, err)
		}
		if err := os.Remove(made[0]); err != nil {
			t.Fatal(err)
		}
		waitsFor(t, env, made[0]+".lock", x[1], dry...)
	}
	repository := filepath.Join(home, "hub", "models--org--name")
	if err := os.MkdirAll(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	waitsFor(t, env, filepath.Join(repository, ".lock"), "fetching org/name",
		"rerank", "--model", "org/name", "--query", "a", "--document", "b")
}
