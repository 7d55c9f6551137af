package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
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
	want := "which computes 5120 tokens at once, the longest text with 20: ONNX Runtime: out of memory: "
	if o.code != 1 || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "go on with: ") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	if found, err := os.ReadDir(filepath.Join(out, "artifacts", "checkpoint")); err != nil || len(found) != 1 {
		t.Fatalf("%d checkpoints, %v", len(found), err)
	}
	call(t, "", append(train, "--resume", "--chunk-tokens", "80")...).ok(t)
}

// All memory of a run is that of its own GPU: of two fake ones, only one gives any. More ranks than GPUs are one clear error.
func TestDeviceIDOnCUDA(t *testing.T) {
	runtimetest.NeedProvider(t)
	if runtimetest.Computes(runtime.CUDA) {
		t.Skip("needs two GPUs, which only scripts/cuda/fake.sh has")
	}
	train := func(more ...string) []string {
		return append([]string{"train", "embedding", "--model", tiny, "--train-dataset", pairs(t, 12), "--output-dir", filepath.Join(t.TempDir(), "out"),
			"--query-max-len", "12", "--passage-max-len", "12", "--batch-size", "4", "--provider", "cuda", "--max-steps", "2"}, more...)
	}
	encode := []string{"encode", "--model", tiny, "--provider", "cuda"}
	text, second := `{"text":"a"}`+"\n", []string{"FAKE_CUDA_DEVICES=2", "FAKE_CUDA_ONLY=1"}
	callEnv(t, second, "", train("--device-id", "1")...).ok(t)
	callEnv(t, second, text, append(encode, "--device-id", "1")...).ok(t)
	callEnv(t, second, "", train()...).fails(t, exitError, "out of memory")
	callEnv(t, second, text, encode...).fails(t, exitError, "out of memory")
	callEnv(t, second, "", train("--device-id", "2")...).fails(t, exitError, "GPU 2 is asked for, and there are only 2")
	t.Setenv("FAKE_CUDA_DEVICES", "2")
	mpirun(t, 2, train()...).ok(t)
	if o := mpirun(t, 3, train()...); o.code == 0 || !strings.Contains(o.stderr, "has 2 GPUs for 3 ranks") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	mpirun(t, 3, train("--device-id", "0")...).ok(t)
}

// Without CUDA, --provider cuda is one line, and auto goes on on the CPU and says so.
func TestNoCUDA(t *testing.T) {
	if _, _, err := runtime.Resolve(runtime.CUDA, 0); err == nil {
		t.Skip("CUDA works here")
	}
	text := `{"text":"密码"}` + "\n"
	call(t, text, "encode", "--model", tiny, "--provider", "cuda").fails(t, 1, "CUDA does not work here")
	want := call(t, text, "encode", "--model", tiny).ok(t)
	got := call(t, text, "encode", "--model", tiny, "--provider", "auto").ok(t)
	if got.stdout != want.stdout || !strings.Contains(got.stderr, "running on the CPU: CUDA does not work here") {
		t.Errorf("stdout %q, want %q; stderr %q", got.stdout, want.stdout, got.stderr)
	}
	call(t, text, "encode", "--model", tiny, "--provider", "cuda", "--int8").fails(t, 2, "--int8 is for the CPU")
	out := filepath.Join(t.TempDir(), "out")
	train := []string{"train", "embedding", "--model", tiny, "--train-dataset", pairs(t, 8), "--output-dir", out, "--max-steps", "1",
		"--query-max-len", "12", "--passage-max-len", "12", "--batch-size", "4", "--mixed-precision", "fp16", "--fused-attention"}
	call(t, "", append(train, "--provider", "cuda")...).fails(t, 1, "CUDA does not work here")
	if _, err := os.Stat(out); err == nil {
		t.Error("a run that cannot start made its folder")
	}
	o := call(t, "", append(train, "--provider", "auto")...).ok(t)
	for _, want := range []string{"provider: the CPU is used: CUDA does not work here", "mixed_precision: a CPU trains in fp32", "fused_attention: the kernel is only for cuda"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("%q is not in: %s", want, o.stderr)
		}
	}
	call(t, "", append(train, "--provider", "gpu", "--dry-run")...).fails(t, 1, `provider is "gpu", want one of cpu, cuda, auto`)
	call(t, "", append(train, "--mixed-precision", "bf16", "--provider", "auto", "--dry-run")...).fails(t, 1, "fused_attention: the kernel has no bf16")
}
