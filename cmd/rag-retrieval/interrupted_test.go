package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder/encodertest"
)

// interrupt starts the program, interrupts it when it is ready, and returns its last line.
func interrupt(t *testing.T, ready func() bool, args ...string) string {
	t.Helper()
	c := running(t, nil, ready, args...)
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait() // its exit code tells
	stderr := strings.TrimSpace(c.Stderr.(*bytes.Buffer).String())
	if c.ProcessState.ExitCode() != exitInterrupted {
		t.Fatalf("exit %d: %s", c.ProcessState.ExitCode(), stderr)
	}
	return stderr[strings.LastIndex(stderr, "\n")+1:]
}

// An interrupted command says in its last line whether the same command goes on, and that is what the same command does.
func TestInterruptedSaysWhatIsNext(t *testing.T) {
	home := t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	wide := encodertest.Wide(t, fixtures+"bert/vocab.txt")
	few, many, docs, folder := samples(t, 2), samples(t, 600), corpusFile(t, 4000), filepath.Join(t.TempDir(), "index")
	scored := func() bool { // more than the task of few queries has
		b := readAll(t, filepath.Join(home, "scores", "*.jsonl"))
		return strings.Count(b, "\n") > 2
	}
	encoded := func() bool { return readAll(t, filepath.Join(folder, "vectors.xxh64")) != "" }
	eval := []string{"eval", "--model", wide, "--kind", "embedding", "--threads", "1"}
	const goesOn, again = "rag-retrieval: interrupted: the same command goes on: ", "; finished tasks are measured again"
	for _, c := range []struct {
		call  []string
		ready func() bool
		want  string
		later string // what the same command says then
	}{
		{append(eval, "--data", many), scored, goesOn + "scored queries are kept", "going on after "},
		{append(eval, "--data", many, "--fresh"), scored, "rag-retrieval: interrupted: the same command without --fresh goes on: scored queries are kept", ""},
		{append(eval, "--data", few, "--data", many), scored, goesOn + "scored queries are kept" + again + " (--mteb-dir keeps their results)", "going on after "},
		{append(eval, "--data", few, "--data", many, "--mteb-dir", t.TempDir()), scored, goesOn + "scored queries are kept", "was measured before"},
		{
			append(eval, "--data", few, "--data", many, "--mteb-dir", t.TempDir(), "--save-scores", filepath.Join(t.TempDir(), "scores")), scored,
			goesOn + "scored queries are kept" + again, "going on after ",
		},
		{
			append(eval, "--data", many, "--model", tiny), scored, goesOn + "scored queries are kept", "going on after ",
		},
		{
			[]string{"index", "--model", wide, "--corpus", docs, "--output", folder, "--threads", "1"}, encoded,
			goesOn + "whole groups of 1024 encoded documents are kept", "",
		},
	} {
		if got := interrupt(t, c.ready, c.call...); got != c.want {
			t.Errorf("%v: %s, want %s", c.call, got, c.want)
		}
		if o := call(t, "", c.call...).ok(t); !strings.Contains(o.stderr, c.later) {
			t.Errorf("%v then said %s", c.call, o.stderr)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(home, "scores", "*.jsonl")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// readAll returns the contents of the files of a pattern, as far as they can be read.
func readAll(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		b, _ := os.ReadFile(f) // it may be gone
		all = append(all, b...)
	}
	return string(all)
}
