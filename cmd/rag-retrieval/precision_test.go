package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/dist/disttest"
	"rag-retrieval-go/ortrain/kernels"
)

// bf16Line begins the line with which a run says how it computes products, if not in fp32.
const bf16Line = "matrix products in "

// portable forces bf16 on any CPU.
var portable = []string{kernels.Variable + "=portable"}

// bf16Note begins the note of a run that is asked for bf16 on a CPU without a unit for it, or the line of one that has it.
func bf16Note() string {
	if len(kernels.Present(true)) > 0 {
		return "log_with: " // no note
	}
	return noUnit
}

const noUnit = "mixed_precision: this CPU has no bf16 unit"

// askedBF16 begins the line of a run that is asked for bf16: how it computes products, or why not so.
func askedBF16() string {
	if len(kernels.Present(true)) > 0 {
		return bf16Line
	}
	return noUnit
}

func readText(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A run says how it computes products, and so do all that it writes. It goes on in the same way only.
func TestTrainPrecision(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out)
	if o := callEnv(t, portable, "", append(args, "--dry-run")...).ok(t); !strings.Contains(o.stdout, bf16Line+"bf16 by the CPU's unit portable; losses and validations in fp32\n") {
		t.Errorf("dry run: %s", o.stdout)
	}
	o := callEnv(t, portable, "", args...).ok(t)
	if strings.Count(o.stderr, bf16Line+"bf16 by the CPU's unit portable") != 1 {
		t.Errorf("stderr: %s", o.stderr)
	}
	for path, want := range map[string]string{
		"train.json": `"precision": "bf16-portable"`, "report.html": "bf16-portable", "model/rag_retrieval.json": `"precision": "bf16-portable"`,
		"model/model_card.md": "| matrix products | bf16-portable |\n", "config.yaml": "mixed_precision: auto\n",
	} {
		if text := readText(t, out, path); !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	// The file begins a run on a machine that takes another path.
	if o := callEnv(t, []string{kernels.Variable + "="}, "", "train", "--config", filepath.Join(out, "config.yaml"), "--output-dir", out+"-2", "--dry-run").ok(t); strings.Contains(o.stdout+o.stderr, "portable") {
		t.Errorf("a copied config.yaml: %s%s", o.stdout, o.stderr)
	}
	resume := append(args, "--resume")
	callEnv(t, portable, "", resume...).ok(t)
	callEnv(t, portable, "", append(resume, "--mixed-precision", "bf16")...).ok(t)
	want := "the checkpoint in " + out + " was made in bf16-portable, and this run computes in fp32: go on with mixed_precision bf16 and RAG_RETRIEVAL_BF16=portable, or start a new run in another folder"
	call(t, "", append(resume, "--mixed-precision", "no")...).fails(t, 1, want)
	call(t, "", append(resume, "--mixed-precision", "no", "--dry-run")...).fails(t, 1, want)
	if len(kernels.Present(true)) == 0 {
		call(t, "", resume...).fails(t, 1, want) // auto
	}
}

// A checkpoint of a version without bf16 on the CPU goes on in fp32.
func TestResumeOfEarlierVersion(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	args := trainRun(pairs(t, 40), out, "--mixed-precision", "no")
	call(t, "", args...).ok(t)
	states, err := filepath.Glob(filepath.Join(out, "artifacts", "checkpoint", "*", "state.json"))
	if err != nil || len(states) == 0 {
		t.Fatal(states, err)
	}
	for _, path := range states {
		text := readText(t, path)
		old := strings.Replace(text, `"precision": "fp32"`, `"global_batch": 8`, 1)
		if old == text {
			t.Fatalf("no precision in %s", text)
		}
		if err := os.WriteFile(path, []byte(old), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	call(t, "", append(args, "--resume")...).ok(t)
	callEnv(t, portable, "", append(args, "--resume", "--mixed-precision", "auto")...).fails(t, 1,
		"was made in fp32, and this run computes in bf16-portable: go on with mixed_precision no, or start a new run in another folder")
}

// A unit that is not known, or that this CPU lacks, stops what would use it.
func TestForcedUnit(t *testing.T) {
	data, out := pairs(t, 8), filepath.Join(t.TempDir(), "out")
	unknown := []string{kernels.Variable + "=pancake"}
	callEnv(t, unknown, "", trainRun(data, out, "--dry-run")...).fails(t, 1, `RAG_RETRIEVAL_BF16 is "pancake", want amx, avx512, portable or arm64`)
	callEnv(t, unknown, "", trainRun(data, out, "--dry-run", "--mixed-precision", "no")...).ok(t)
	text := `{"text":"a"}` + "\n"
	callEnv(t, unknown, text, "encode", "--model", tiny).ok(t)
	callEnv(t, unknown, text, "encode", "--model", tiny, "--mixed-precision", "auto").fails(t, 1, `RAG_RETRIEVAL_BF16 is "pancake"`)
	if o := callEnv(t, unknown, "", "doctor"); o.code != 1 || !strings.Contains(o.stderr, "bf16 does not work") {
		t.Errorf("doctor: exit %d: %s", o.code, o.stderr)
	}
	if kernels.AMX.Check() != nil {
		callEnv(t, []string{kernels.Variable + "=amx"}, "", trainRun(data, out, "--dry-run")...).fails(t, 1, "RAG_RETRIEVAL_BF16 is amx: this CPU has no AMX for bf16, or the system does not allow it; unset it, or set it to portable")
	}
	o := callEnv(t, portable, "", "doctor").ok(t)
	text = strings.Join(strings.Fields(strings.ReplaceAll(o.stdout, "│", " ")), " ") // the table's cells without their line breaks
	if !strings.Contains(text, "RAG_RETRIEVAL_BF16=portable") || !strings.Contains(text, "train computes in bf16-portable") {
		t.Errorf("doctor: %s", o.stdout)
	}
}

// Every command that opens a model knows the flag and its values.
func TestScoringPrecisions(t *testing.T) {
	data, queries := pairs(t, 8), write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n")
	corpus := write(t, "corpus.jsonl", `{"_id": "1", "text": "aa the er"}`+"\n")
	index := filepath.Join(t.TempDir(), "index")
	call(t, "", "index", "--model", tiny, "--corpus", corpus, "--output", index).ok(t)
	for _, args := range [][]string{
		{"eval", "--model", tiny, "--data", queries}, {"encode", "--model", tiny}, {"rerank", "--model", tiny}, {"search", "--index", index, "the a"},
		{"mine", "--model", tiny, "--train-dataset", data, "--output", filepath.Join(t.TempDir(), "mined.jsonl")},
		{"index", "--model", tiny, "--corpus", corpus, "--output", filepath.Join(t.TempDir(), "x")},
		{"serve", "--model", "tiny=" + tiny, "--listen", "127.0.0.1:0"},
	} {
		call(t, "", append(args, "--mixed-precision", "fp16")...).fails(t, 2, `--mixed-precision is "fp16", want one of [no fp32 bf16 auto]`)
		if args[0] == "search" {
			continue // its index is opened first, on CUDA
		}
		call(t, "", append(args, "--mixed-precision", "bf16", "--provider", "cuda")...).fails(t, 2, "--mixed-precision bf16 is for the CPU, scoring on cuda is in fp32: leave it out, or --provider cuda")
	}
	result := filepath.Join(t.TempDir(), "result.json")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "fp32"}, {[]string{"--mixed-precision", "fp32"}, "fp32"}, {[]string{"--mixed-precision", "auto"}, "bf16-portable"}, {[]string{"--mixed-precision", "bf16"}, "bf16-portable"},
		{[]string{"--int8", "--mixed-precision", "bf16"}, "int8+bf16-portable"}, {[]string{"--int8"}, "int8"},
	} {
		o := callEnv(t, portable, "", append([]string{"eval", "--model", tiny, "--data", queries, "--json", result}, c.flags...)...).ok(t)
		line := tiny + ": " + bf16Line + "bf16 by the CPU's unit portable\n"
		if strings.HasPrefix(c.want, "int8+") {
			line = tiny + ": linear layers in 8-bit integers, other " + bf16Line + "bf16 by the CPU's unit portable\n"
		}
		if n := strings.Count(o.stderr, line); (n == 1) != strings.Contains(c.want, "bf16") || n == 0 && strings.Contains(o.stderr, "bf16") {
			t.Errorf("%v: stderr lacks %q, or has another such line: %s", c.flags, line, o.stderr)
		}
		if strings.HasPrefix(c.want, "int8") && !strings.Contains(o.stderr, " with "+c.want+", ") {
			t.Errorf("%v: %s", c.flags, o.stderr)
		}
		var r struct{ Precision string }
		if err := json.Unmarshal([]byte(readText(t, result)), &r); err != nil || r.Precision != c.want {
			t.Errorf("%v: %q, want %q, %v", c.flags, r.Precision, c.want, err)
		}
	}
	if o := callEnv(t, portable, "", "search", "--index", index, "--mixed-precision", "bf16", "the a").ok(t); !strings.Contains(o.stderr, bf16Line) {
		t.Errorf("search: %s", o.stderr)
	}
	callEnv(t, portable, "", "index", "--model", tiny, "--corpus", corpus, "--output", index+"-bf16", "--mixed-precision", "bf16").ok(t)
	if !strings.Contains(readText(t, index+"-bf16", "index.json"), `"bf16": "portable"`) {
		t.Error("the index does not say how its vectors were computed")
	}
}

// closeTo fails where two numbers differ by more than a share of the second.
func closeTo(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*math.Abs(want) {
		t.Errorf("%s: %g, want %g within %g", what, got, want, share)
	}
}

// Training in bf16 learns what training in fp32 does, and scores in bf16 are close.
func TestPortable(t *testing.T) {
	data := pairs(t, 40)
	losses := func(env []string, precision string) (model string, out []float64) {
		dir := filepath.Join(t.TempDir(), "out")
		callEnv(t, env, "", trainRun(data, dir, "--dropout", "0", "--mixed-precision", precision)...).ok(t)
		for _, line := range strings.Split(strings.TrimSpace(readText(t, dir, "metrics.jsonl")), "\n") {
			var row struct{ Loss float64 }
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			out = append(out, row.Loss)
		}
		return filepath.Join(dir, "model"), out
	}
	model, got := losses(portable, "auto")
	_, want := losses(nil, "no")
	for i := range want {
		closeTo(t, "loss", got[i], want[i], 0.05)
	}
	text := `{"text":"the a of b"}` + "\n"
	vector := func(env []string, flags ...string) []float64 {
		var row struct{ Embedding []float64 }
		o := callEnv(t, env, text, append([]string{"encode", "--model", model}, flags...)...).ok(t)
		if err := json.Unmarshal([]byte(o.stdout), &row); err != nil {
			t.Fatal(err)
		}
		return row.Embedding
	}
	a, b := vector(nil), vector(portable, "--mixed-precision", "bf16")
	cosine := 0.0
	for i := range a {
		cosine += a[i] * b[i]
	}
	closeTo(t, "cosine of the vectors", cosine, 1, 0.001)
}

// The ranks of a job take one path. Where the variable is not set for all of them, the rank is named.
func TestPrecisionOfRanks(t *testing.T) {
	rows, queries := pairs(t, 24), write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n")
	jobOf := func(env []string, args ...string) output {
		c := disttest.Command(t, 1, "env", append([]string{env[0], os.Args[0]}, args...)...)
		c.Args = append(append(append(c.Args, ":", "-n", "1", "env"), env[1], os.Args[0]), args...)
		c.Env = append(c.Env, asProgram+"=1")
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		_ = c.Run() // the exit code says it
		return output{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
	out := filepath.Join(t.TempDir(), "out")
	train := trainRun(rows, out, "--threads", "1", "--epochs", "1", "--batch-size", "4")
	forced, none := kernels.Variable+"=portable", kernels.Variable+"="
	if o := jobOf([]string{forced, none}, train...); o.code == 0 || !strings.Contains(o.stderr, `RAG_RETRIEVAL_BF16 is "" in rank 1 on `) {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	eval := []string{"eval", "--model", tiny, "--data", queries, "--mixed-precision", "bf16"}
	if len(kernels.Present(true)) == 0 {
		if o := jobOf([]string{forced, none}, eval...); o.code == 0 || !strings.Contains(o.stderr, "the precision is fp32, of rank 0 bf16-portable") {
			t.Errorf("exit %d: %s", o.code, o.stderr)
		}
	}
	jobOf([]string{forced, forced}, train...).ok(t)
	if s := readText(t, out, "train.json"); !strings.Contains(s, `"precision": "bf16-portable"`) {
		t.Error(s)
	}
}

// A folder of MTEB's result files has the results of one precision.
func TestResultsOfOnePrecision(t *testing.T) {
	dir, queries := t.TempDir(), write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n")
	args := []string{"eval", "--model", tiny, "--data", queries, "--mteb-dir", dir}
	callEnv(t, portable, "", append(args, "--mixed-precision", "bf16")...).ok(t)
	want := " in bf16-portable, not of " + tiny + ": name another folder for them"
	for _, flags := range [][]string{nil, {"--fresh"}, {"--save-scores", filepath.Join(t.TempDir(), "scores.jsonl")}} {
		call(t, "", append(slices.Clip(args), flags...)...).fails(t, 1, want)
	}
	if o := callEnv(t, portable, "", append(args, "--mixed-precision", "bf16")...).ok(t); !strings.Contains(o.stderr, "was measured before") {
		t.Errorf("stderr: %s", o.stderr)
	}
}

// Results of different precisions are told apart, and a baseline of another one is refused.
func TestComparePrecisions(t *testing.T) {
	dir, queries := t.TempDir(), write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n")
	path := func(name string) string { return filepath.Join(dir, name+".json") }
	for name, flags := range map[string][]string{"fp32": nil, "int8": {"--int8"}, "bf16": {"--mixed-precision", "bf16"}} {
		callEnv(t, portable, "", append([]string{"eval", "--model", tiny, "--data", queries, "--json", path(name)}, flags...)...).ok(t)
	}
	o := call(t, "", "compare", path("fp32"), path("int8"), path("bf16"), "--format", "csv").ok(t)
	if want := "fp32.json is in fp32, "; !strings.Contains(o.stderr, want) || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stdout, tiny+" in bf16-portable,") {
		t.Errorf("%s%s", o.stderr, o.stdout)
	}
	if o := call(t, "", "compare", path("fp32"), path("fp32")).ok(t); o.stderr != "" || strings.Contains(o.stdout, "fp32") {
		t.Errorf("%s%s", o.stderr, o.stdout)
	}
	baseline := path("baseline")
	call(t, "", "gate", "--baseline", baseline, "--update", path("fp32")).ok(t)
	call(t, "", "gate", "--baseline", baseline, path("fp32")).ok(t)
	call(t, "", "gate", "--baseline", baseline, path("int8")).fails(t, 1, "the results are in int8, the baseline in fp32: ")
}

// The precision and the lengths of a second model, on top of BM25, are the report's.
func TestPrecisionOfReranking(t *testing.T) {
	result := filepath.Join(t.TempDir(), "result.json")
	callEnv(t, portable, "", "eval", "--retrieval", retrievalSet(t, 20, 3), "--kind", "bm25", "--rerank", tiny, "--mixed-precision", "bf16",
		"--passage-max-len", "9", "--json", result).ok(t)
	text := readText(t, result)
	for _, want := range []string{`"precision": "bf16-portable"`, `"passage_max_len": 9`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}

// A server says at its start how it computes.
func TestServePrecision(t *testing.T) {
	s := launchServing(t, portable, "--model", "tiny="+tiny, "--mixed-precision", "bf16")
	s.line(t, tiny+": "+bf16Line+"bf16 by the CPU's unit portable")
	s.line(t, "serving on ")
	if _, err := s.end(t, os.Interrupt); err != nil {
		t.Error(err)
	}
}
