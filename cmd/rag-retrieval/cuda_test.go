package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

// A run on CUDA from its first step to a model that scores there, in each precision; where nothing computes, the way is
// the same.
func TestOnCUDA(t *testing.T) {
	runtimetest.NeedProvider(t)
	data := pairs(t, 12)
	for _, precision := range []string{"no", "fp16", "bf16"} {
		t.Run(precision, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			train := []string{"train", "embedding", "--model", tiny, "--train-dataset", data, "--val-dataset", data, "--output-dir", out,
				"--query-max-len", "12", "--passage-max-len", "12", "--batch-size", "4", "--provider", "auto", "--mixed-precision", precision}
			o := call(t, "", append(train, "--max-steps", "2")...).ok(t)
			if strings.Contains(o.stderr, "CPU") {
				t.Errorf("the CPU computed: %s", o.stderr)
			}
			model := filepath.Join(out, "model")
			call(t, `{"text":"a"}`+"\n", "encode", "--model", model, "--provider", "cuda").ok(t)
		})
	}
}

// Memory that ends leaves a run that goes on with smaller steps.
func TestOutOfMemoryOnCUDA(t *testing.T) {
	runtimetest.NeedProvider(t)
	var rows strings.Builder
	for range 128 {
		rows.WriteString(`{"query":"` + strings.Repeat("how many ", 120) + `","pos":["` + strings.Repeat("two of them ", 120) + `"]}` + "\n")
	}
	out := filepath.Join(t.TempDir(), "out")
	train := []string{"train", "embedding", "--model", tiny, "--train-dataset", write(t, "long.jsonl", rows.String()), "--output-dir", out,
		"--query-max-len", "20", "--passage-max-len", "20", "--batch-size", "128", "--max-steps", "1", "--provider", "cuda", "--gpu-mem-limit", "0.02"}
	o := call(t, "", train...)
	want := "where 5120 tokens are computed at once, the longest text of 20: ONNX Runtime: out of memory: "
	if o.code != 1 || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "go on with: ") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	if found, err := os.ReadDir(filepath.Join(out, "artifacts", "checkpoint")); err != nil || len(found) != 1 {
		t.Fatalf("%d checkpoints, %v", len(found), err)
	}
	call(t, "", append(train, "--resume", "--chunk-tokens", "80")...).ok(t)
}
