package main

import (
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

// Every command that scores takes --provider openvino where it works, and exits as always.
func TestOpenVINOCommands(t *testing.T) {
	if _, err := runtime.FindOpenVINO(); err != nil {
		t.Skip(err)
	}
	queries := write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n")
	corpus := write(t, "corpus.jsonl", `{"_id": "1", "text": "aa the er"}`+"\n")
	index := filepath.Join(t.TempDir(), "index")
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // on stdout
	}{
		{`{"text": "the a"}` + "\n", []string{"encode", "--model", tiny}, `{"embedding":[`},
		{`{"query": "the a", "documents": ["aa", "bb"]}` + "\n", []string{"rerank", "--model", tiny}, "score"},
		{"", []string{"eval", "--model", tiny, "--data", queries}, "MRR@10"},
		{"", []string{"mine", "--model", tiny, "--train-dataset", pairs(t, 8), "--output", filepath.Join(t.TempDir(), "mined.jsonl")}, ""},
		{"", []string{"index", "--model", tiny, "--corpus", corpus, "--output", index}, ""},
		{"", []string{"search", "--index", index, "the a"}, `"id":"1"`},
		{"", []string{"doctor"}, "computes in fp32"},
	} {
		if c.args[0] != "doctor" {
			c.args = append([]string{c.args[0], "--provider", "openvino"}, c.args[1:]...)
		}
		if o := call(t, c.stdin, c.args...).ok(t); !strings.Contains(o.stdout, c.want) {
			t.Errorf("%v: %q", c.args, o.stdout)
		}
	}
}

// Without OpenVINO, --provider openvino is one line that says what to do. Training does not take it at all.
func TestOpenVINOMissing(t *testing.T) {
	text, encode := `{"text": "the a"}`+"\n", []string{"encode", "--model", tiny, "--provider", "openvino"}
	nowhere := []string{runtime.OpenVINOVariable + "=/nowhere/plugin.so"}
	callEnv(t, nowhere, text, encode...).fails(t, exitError, "OpenVINO does not work here: RAG_RETRIEVAL_OPENVINO_LIB: stat /nowhere/plugin.so: no such file")
	other := []string{runtime.OpenVINOVariable + "=" + write(t, "plugin.so", "no library")}
	callEnv(t, other, text, encode...).fails(t, exitError, "OpenVINO does not work here: loading the plug-in", "names a plug-in of version 1.8")
	if o := callEnv(t, nowhere, "", "doctor").ok(t); !strings.Contains(o.stdout, "OpenVINO does not work here") {
		t.Error(o.stdout)
	}
	call(t, text, append(encode, "--int8")...).fails(t, 2, "--int8 is for the CPU: leave it out, or --provider openvino")
	call(t, "", trainRun(pairs(t, 8), filepath.Join(t.TempDir(), "out"), "--provider", "openvino")...).fails(t, exitError,
		`provider is "openvino", want one of cpu, cuda, auto`)
}
