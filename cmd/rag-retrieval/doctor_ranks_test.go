package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
	"rag-retrieval-go/ortrain/runtime"
)

// One table for the whole job, with a row for each host.
func TestDoctorOfRanks(t *testing.T) {
	o := mpirun(t, 4, "doctor").ok(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	library, _ := runtime.Version()
	if strings.Count(o.stdout, "┌") != 1 || strings.Count(o.stdout, host) < 1 {
		t.Errorf("not one table: %s", o.stdout)
	}
	for _, want := range []string{"0-3", version, library, "host", "local ranks", "threads of a rank"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("%q is not in %s", want, o.stdout)
		}
	}
	if o := mpirun(t, 2, "doctor", "--model", tiny); o.code == 0 || !strings.Contains(o.stderr, "--model is for one process") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// A rank that cannot compute is named, and the job fails.
func TestDoctorOfABrokenRank(t *testing.T) {
	c := disttest.Command(t, 1, os.Args[0], "doctor")
	c.Args = append(c.Args, ":", "-n", "1", "env", runtime.LibraryVariable+"=/none", os.Args[0], "doctor")
	c.Env = append(c.Env, asProgram+"=1")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err == nil || !strings.Contains(stderr.String(), "this job cannot train: rank 1 on ") || strings.Count(stdout.String(), "┌") != 1 {
		t.Errorf("%v: %s%s", err, stdout.String(), stderr.String())
	}
}

// What train refuses, doctor refuses.
func TestCompareRanks(t *testing.T) {
	places := []dist.Place{{Host: "a", Cores: []int{0}}, {Host: "b", Cores: []int{0}}}
	report := func(program, library string) rankReport {
		return rankReport{Versions: finetune.Versions{Program: program, Runtime: library}}
	}
	if err := compareRanks(places, []rankReport{report("1", "1.32.0"), report("1", "1.32.0")}); err != nil {
		t.Error(err)
	}
	want := "rank 1 on b differs from rank 0: program is 2, there 1; ONNX Runtime is 1.31.1, there 1.32.0"
	if err := compareRanks(places, []rankReport{report("1", "1.32.0"), report("2", "1.31.1")}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestSpans(t *testing.T) {
	for want, numbers := range map[string][]int{"": nil, "3": {3}, "0-3": {0, 1, 2, 3}, "0-1, 4, 6-7": {7, 6, 4, 1, 0}} {
		if got := spans(numbers); got != want {
			t.Errorf("%v: %q, want %q", numbers, got, want)
		}
	}
}
