package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"rag-retrieval-go/internal/safetensors"
)

// The test binary is the program itself when this variable is set.
const asProgram = "RAG_RETRIEVAL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	home, err := os.MkdirTemp("", "rag-retrieval-home-*") // tests leave nothing in the user's cache
	if err != nil {
		panic(err)
	}
	os.Setenv("RAG_RETRIEVAL_HOME", home)
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

const tiny = "../../models/embedding/testdata/tiny"

// output is what one call of the program gave.
type output struct {
	code           int
	stdout, stderr string
}

func program(env []string, args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	return c
}

func call(t *testing.T, stdin string, args ...string) output {
	t.Helper()
	return callEnv(t, nil, stdin, args...)
}

func callEnv(t *testing.T, env []string, stdin string, args ...string) output {
	t.Helper()
	c := program(env, args...)
	var out, err bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &err
	if e := c.Run(); e != nil {
		var exit *exec.ExitError
		if !errors.As(e, &exit) {
			t.Fatal(e)
		}
	}
	return output{c.ProcessState.ExitCode(), out.String(), err.String()}
}

func (o output) ok(t *testing.T) output {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	return o
}

// fails checks for one line on stderr that has the given words, and for an exit code.
func (o output) fails(t *testing.T, code int, words ...string) {
	t.Helper()
	lines := strings.Count(o.stderr, "\n")
	if strings.HasPrefix(o.stderr, "matrix products in bf16") { // what train says first on a CPU with a unit for bf16
		lines--
	}
	if o.code != code || lines != 1 {
		t.Errorf("exit %d, want %d with one line: %s", o.code, code, o.stderr)
	}
	for _, w := range words {
		if !strings.Contains(o.stderr, w) {
			t.Errorf("%q is not in: %s", w, o.stderr)
		}
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// pairs is a training file of n rows over the tiny model's letters.
func pairs(t *testing.T, n int) string {
	var b strings.Builder
	for i := 0; i < n; i++ {
		fmt.Fprintf(&b, `{"query": "the %c of %c", "pos": "%c%c the er"}`+"\n", 'a'+i%26, 'a'+i/26, 'a'+i%26, 'a'+i/26)
	}
	return write(t, "pairs.jsonl", b.String())
}

// train gives the arguments of a short training run.
func trainRun(data, out string, more ...string) []string {
	return append([]string{"train", "embedding", "--model", tiny, "--train-dataset", data, "--output-dir", out,
		"--query-max-len", "10", "--passage-max-len", "12", "--batch-size", "8", "--lr", "1e-3", "--epochs", "2", "--threads", "2"}, more...)
}

func TestTrainEvalEncode(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	o := call(t, "", trainRun(pairs(t, 40), out, "--log-interval", "5", "--epochs", "15", "--lr", "3e-3", "--dropout", "0.05")...).ok(t)
	model := filepath.Join(out, "model")
	if strings.TrimSpace(o.stdout) != model || !strings.Contains(o.stderr, "training 5/75  loss ") {
		t.Errorf("stdout %q, stderr %q", o.stdout, o.stderr)
	}
	for _, name := range []string{
		"config.yaml", "metrics.jsonl", "train.json", "artifacts/training_model.onnx", "artifacts/eval_model.onnx",
		"artifacts/optimizer_model.onnx", "model/model.safetensors",
		"model/model.onnx", "model/modules.json", "model/1_Pooling/config.json", "model/tokenizer.json", "model/rag_retrieval.json",
	} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	losses := readLosses(t, out)
	if len(losses) != 75 || mean(losses[65:]) > 0.7*mean(losses[:10]) {
		t.Errorf("75 losses that fall, not %v", losses)
	}
	test := write(t, "set,with comma.jsonl", `{"query":"the a of a","positive":["aa the er"],"negative":["zz","qq the"]}`+"\n")
	result := filepath.Join(t.TempDir(), "r.json")
	scores := filepath.Join(t.TempDir(), "s.jsonl")
	o = call(t, "", "eval", "--model", model, "--data", test, "--data", test, "--json", result, "--save-scores", scores, "--format", "markdown").ok(t)
	if !strings.Contains(o.stdout, "| set,with comma |") || !strings.Contains(o.stdout, "average") {
		t.Errorf("table: %s", o.stdout)
	}
	var report struct {
		Model, Kind string
		Results     []struct {
			Task, Rule string
			Queries    int
			MAP        float64 `json:"map"`
			MRR        float64 `json:"mrr"`
			Seconds    float64
		}
	}
	readJSON(t, result, &report)
	if report.Kind != "embedding" || len(report.Results) != 2 || report.Results[0].Rule != "mteb-1" || report.Results[0].MAP != 1 {
		t.Errorf("%+v", report)
	}
	if b, _ := os.ReadFile(scores); strings.Count(string(b), `"query_id":"0","scores":[`) != 2 {
		t.Errorf("scores: %s", b)
	}
	o = call(t, `{"text":"aa the er"}`+"\n\n"+`{"text":"aa the er\u0000"}`, "encode", "--model", model, "--as", "query").ok(t)
	rows := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if len(rows) != 2 || rows[0] != rows[1] || strings.Count(rows[0], ",") != 35 {
		t.Errorf("encode: %s", o.stdout)
	}
}

const fixtures = "../../models/finetune/testdata/"

// Every kind trains from a base model, says what it is, is measured and ranks; as another kind it is refused.
func TestEveryKind(t *testing.T) {
	var rows strings.Builder
	for i := range 12 {
		fmt.Fprintf(&rows, `{"query":"\u5982\u4f55%c","pos":"%c\u5bc6\u7801","neg":["%c\u5929\u6c14","\u82f9\u679c"]}`+"\n", 'a'+i, 'a'+i, 'b'+i)
	}
	data := write(t, "rows.jsonl", rows.String())
	test := write(t, "test.jsonl", `{"query":"\u5982\u4f55a","positive":["a\u5bc6\u7801"],"negative":["c\u5929\u6c14"]}`+"\n")
	for kind, base := range map[string]string{"embedding": "xlmr", "colbert": "bert", "reranker": "bert"} {
		t.Run(kind, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			args := []string{"train", kind, "--model", fixtures + base, "--train-dataset", data, "--val-dataset", data, "--eval-steps", "4",
				"--early-stop", "3", "--output-dir", out, "--lr", "3e-3", "--epochs", "10", "--batch-size", "4", "--threads", "2"}
			if kind == "reranker" {
				args = append(args, "--max-len", "20")
			} else {
				args = append(args, "--query-max-len", "12", "--passage-max-len", "12", "--neg-nums", "1")
			}
			o := call(t, "", args...).ok(t)
			if !strings.Contains(o.stderr, "validation at step 4: loss ") || !strings.Contains(o.stderr, "(best so far)") {
				t.Errorf("stderr: %s", o.stderr)
			}
			model := filepath.Join(out, "model")
			var saved struct {
				Kind  string
				Steps int
			}
			readJSON(t, filepath.Join(model, "rag_retrieval.json"), &saved)
			best := bestValidation(t, out)
			if saved.Kind != kind || saved.Steps != best {
				t.Errorf("saved %+v, the best validation was at step %d", saved, best)
			}
			result := filepath.Join(t.TempDir(), "r.json")
			call(t, "", "eval", "--model", model, "--data", test, "--json", result).ok(t)
			var report struct{ Kind string }
			readJSON(t, result, &report)
			if report.Kind != kind {
				t.Errorf("evaluated as %q", report.Kind)
			}
			o = call(t, `{"query":"a","documents":["b","a","c"]}`+"\n[]\n", "rerank", "--model", model)
			lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
			if o.code != 1 || len(lines) != 2 || strings.Count(lines[0], ",") != 5 || !strings.Contains(lines[1], "stdin:2: ") {
				t.Errorf("rerank: exit %d, %s", o.code, o.stdout)
			}
			other := map[string]string{"embedding": "reranker", "colbert": "embedding", "reranker": "colbert"}[kind]
			call(t, "", "eval", "--model", model, "--kind", other, "--data", test).fails(t, 1, "is a model of kind "+kind+", not "+other)
		})
	}
}

// A run that was stopped while it validated for the last time validates when it is resumed, and saves the model.
func TestResumeBeforeTheLastValidation(t *testing.T) {
	data, out := pairs(t, 24), filepath.Join(t.TempDir(), "out")
	args := trainRun(data, out, "--val-dataset", data)
	call(t, "", args...).ok(t)
	before, err := os.ReadFile(filepath.Join(out, "validation.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	baseModels, _, _ := bytes.Cut(before, []byte("\n"))
	err = os.WriteFile(filepath.Join(out, "validation.jsonl"), append(baseModels, '\n'), 0o644)
	if err := errors.Join(err, os.RemoveAll(filepath.Join(out, "model"))); err != nil {
		t.Fatal(err)
	}
	call(t, "", append(args, "--resume")...).ok(t)
	after, err := os.ReadFile(filepath.Join(out, "validation.jsonl"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("validated %s, then %s (%v)", before, after, err)
	}
	if _, err := os.Stat(filepath.Join(out, "model", "model.safetensors")); err != nil {
		t.Error(err)
	}
}

// One query's documents come from flags, files and stdin; rows from files. All give what stdin rows give.
func TestRerankFromEverywhere(t *testing.T) {
	want := call(t, `{"query":"ab","documents":["ab","cd ef","gh"]}`, "rerank", "--model", tiny).ok(t).stdout
	rows := write(t, "rows.jsonl", `{"query":"ab","documents":["ab","cd ef","gh"]}`)
	lines := write(t, "lines.txt", "cd ef\n\n gh \n")
	for _, args := range [][]string{
		{"rerank", "--model", tiny, rows},
		{"rerank", rows, "--model", tiny},
		{"rerank", "--model", tiny, "--query", "ab", "--document", "ab", "--document", "cd ef", "--document", "gh"},
		{"rerank", "--model", tiny, "--query", "ab", "--document", "ab", lines},
	} {
		if got := call(t, "", args...).ok(t).stdout; got != want {
			t.Errorf("%v: %s, want %s", args, got, want)
		}
	}
	if got := call(t, "ab\ncd ef\ngh", "rerank", "--model", tiny, "--query", "ab").ok(t).stdout; got != want {
		t.Errorf("from stdin: %s, want %s", got, want)
	}
	table := call(t, "", "rerank", "--model", tiny, "--query", "ab", "--document", "cd", "--document", "ab", "--format", "table").ok(t).stdout
	if !strings.Contains(table, "score") || strings.Index(table, " ab ") > strings.Index(table, " cd ") {
		t.Errorf("the table has not the best first:\n%s", table)
	}
}

// A run leaves a page that needs nothing else, with its curves, gain and settings, and a card that says the same.
func TestReport(t *testing.T) {
	data, out := pairs(t, 40), filepath.Join(t.TempDir(), "out")
	call(t, "", trainRun(data, out, "--val-dataset", data, "--eval-steps", "3")...).ok(t)
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("<svg")); n != 7 {
		t.Errorf("%d charts", n)
	}
	for _, want := range []string{"Before and after, on ", "<td>gain</td>", "<code>query_max_len</code>", "of the first ", data} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"src=", "href=\"http", "@import", "NaN", "ZgotmplZ"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("the page has %q", bad)
		}
	}
	var v struct {
		Validation struct{ MAP, MRR float64 }
	}
	b, err := os.ReadFile(filepath.Join(out, "model", "rag_retrieval.json"))
	if err := errors.Join(err, json.Unmarshal(b, &v)); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(out, "model", "model_card.md"))
	if want := fmt.Sprintf("| after | %.2f | %.2f |", 100*v.Validation.MAP, 100*v.Validation.MRR); err != nil || !strings.Contains(string(md), want) {
		t.Errorf("%v; the card lacks %q: %s", err, want, md)
	}
	if events, err := filepath.Glob(filepath.Join(out, "tensorboard", "events.out.tfevents.*")); err != nil || len(events) != 1 {
		t.Errorf("event files %v, %v", events, err)
	}
}

// Rows that have no passages cannot be validated by MAP: one line says so.
func TestValidationNeedsPassages(t *testing.T) {
	rows := write(t, "texts.jsonl", `{"query":"ab"}`+"\n"+`{"query":"cd"}`+"\n")
	teacher := write(t, "teacher.f32", strings.Repeat("\x00\x00\x80\x3f", 2*36))
	call(t, "", trainRun(rows, filepath.Join(t.TempDir(), "out"), "--loss-type", "stella", "--teacher-embeddings", teacher,
		"--teacher-embedding-dim", "36", "--val-dataset", rows)...).fails(t, 1, "val_dataset: ", "no query has both a positive and a negative passage")
}

// bestValidation is the step of the last validation that was the best so far.
func bestValidation(t *testing.T, out string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "validation.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var v struct {
			Step int
			Best bool
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Best {
			best = v.Step
		}
	}
	return best
}

// A configuration file of RAG-Retrieval's keys: lists as texts, old spellings, and keys without a meaning here, named once.
func TestRAGRetrievalConfig(t *testing.T) {
	config := write(t, "run.yaml", `kind: embedding
model_name_or_path: `+fixtures+`bert
train_dataset: `+pairs(t, 12)+`
output_dir: `+filepath.Join(t.TempDir(), "out")+`
query_max_len: 10
passage_max_len: 10
use_mrl: true
mrl_dims: "8, 24"
mixed_precision: bf16
log_with: wandb
gradient_checkpointing: true
`)
	o := call(t, "", "train", "--config", config, "--train-dataset-type", "grouped", "--dry-run").ok(t)
	for _, want := range []string{bf16Note(), "log_with: ", "--train-dataset-type is not used here: it is for reranker"} {
		if strings.Count(o.stderr, want) != 1 {
			t.Errorf("%q is not once in: %s", want, o.stderr)
		}
	}
	config = write(t, "plain.yaml", "kind: embedding\n")
	call(t, "", "train", "reranker", "--config", config, "--dry-run").fails(t, 1, `kind is "embedding", the command says "reranker"`)
	call(t, "", "train", "--config", config, "--mrl-dims", "8,x").fails(t, 2, `"x" is not a number`)
	call(t, "", "train", "pancake").fails(t, 2, "want one of embedding, colbert, reranker")
	call(t, "", "train", "--model", fixtures+"bert", "--dry-run").fails(t, 2, "name the kind of model, as in rag-retrieval train embedding")
}

// A run of one step would save the base model: it says so. A run of two steps learns.
func TestOneStepOfWarmup(t *testing.T) {
	const note = "the run has one step"
	args := []string{"train", "embedding", "--model", fixtures + "bert", "--train-dataset", pairs(t, 12), "--output-dir", filepath.Join(t.TempDir(), "out"),
		"--query-max-len", "10", "--passage-max-len", "10", "--epochs", "1", "--batch-size", "12", "--dry-run"}
	for _, c := range []struct {
		more []string
		said bool
	}{{nil, true}, {[]string{"--epochs", "2"}, false}, {[]string{"--warmup-proportion", "0"}, false}} {
		if o := call(t, "", append(args, c.more...)...).ok(t); strings.Contains(o.stderr, note) != c.said {
			t.Errorf("%v: %s", c.more, o.stderr)
		}
	}
}

// The recipes are valid, say what they would fetch, and plan on models and rows that are there.
func TestRecipes(t *testing.T) {
	recipes, err := filepath.Glob("../../scripts/recipes/*.yaml")
	if err != nil || len(recipes) != 5 {
		t.Fatalf("%v, %v", recipes, err)
	}
	row := `{"query":"\u5982\u4f55","pos":["\u5bc6\u7801"],"neg":["\u5929\u6c14","\u82f9\u679c"]}` + "\n"
	data := write(t, "rows.jsonl", strings.Repeat(row, 40))
	for _, recipe := range recipes {
		o := call(t, "", "train", "--config", recipe, "--dry-run")
		o.fails(t, 1, "1 files or folders are not there; the settings are valid")
		if !strings.Contains(o.stdout, "would be fetched from the hub: ") || !strings.Contains(o.stdout, "not there: ") {
			t.Errorf("%s: %s", recipe, o.stdout)
		}
		o = call(t, "", "train", "--config", recipe, "--train-dataset", data, "--dry-run").ok(t)
		if !strings.Contains(o.stdout, "would be fetched from the hub: ") || o.stderr != "" {
			t.Errorf("%s: %s%s", recipe, o.stdout, o.stderr)
		}
		o = call(t, "", "train", "--config", recipe, "--train-dataset", data, "--model", fixtures+"bert", "--max-len", "20",
			"--query-max-len", "20", "--passage-max-len", "20", "--dry-run").ok(t)
		if !strings.Contains(o.stdout, "40 examples, ") || !strings.Contains(o.stdout, "M parameters") || !strings.Contains(o.stdout, "GB of memory") {
			t.Errorf("%s: %s", recipe, o.stdout)
		}
	}
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readLosses(t *testing.T, out string) []float64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var row struct{ Loss float64 }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, row.Loss)
	}
	return losses
}

// A run that was stopped and resumed ends with the bytes of one that was not, dropout and accumulation included.
func TestResumeIsTheSameRun(t *testing.T) {
	data := pairs(t, 203)
	more := []string{"--gradient-accumulation-steps", "2", "--epochs", "20"}
	whole, stopped := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	call(t, "", trainRun(data, whole, more...)...).ok(t)
	code, stderr := stopAfter(t, stopped, 7, os.Interrupt, trainRun(data, stopped, more...)...)
	if code != exitInterrupted || !strings.Contains(stderr, "go on with: ") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(stopped, "model")); err == nil {
		t.Fatal("an interrupted run has a model")
	}
	call(t, "", trainRun(data, stopped, append(more, "--resume", "--lr", "2e-3")...)...).fails(t, 1, "lr was 0.001, is 0.002")
	call(t, "", trainRun(data, stopped, more...)...).fails(t, 1, "is not empty", "--resume")
	call(t, "", trainRun(data, stopped, append(more, "--resume")...)...).ok(t)
	if o := call(t, "", trainRun(data, stopped, append(more, "--resume")...)...).ok(t); !strings.Contains(o.stderr, "all steps were done before") {
		t.Errorf("a finished run, resumed: %s", o.stderr)
	}
	sameRun(t, whole, stopped)
}

// So does one that was killed or terminated at any moment; steps after the last checkpoint are done again, and logged once.
func TestKilledRunsAreTheSameRun(t *testing.T) {
	data := pairs(t, 203)
	more := []string{"--epochs", "8", "--save-steps", "9"}
	whole := filepath.Join(t.TempDir(), "whole")
	call(t, "", trainRun(data, whole, more...)...).ok(t)
	for name, signal := range map[string]os.Signal{"SIGKILL": os.Kill, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			stopped := filepath.Join(t.TempDir(), "stopped")
			for _, steps := range []int{12, 40, 75} { // each time it goes on from the checkpoint before
				args := trainRun(data, stopped, more...)
				if steps > 12 {
					args = append(args, "--resume")
				}
				stopAfter(t, stopped, steps, signal, args...)
			}
			call(t, "", trainRun(data, stopped, append(more, "--resume")...)...).ok(t)
			sameRun(t, whole, stopped)
		})
	}
}

// stopAfter starts the program and sends it a signal once that many steps are logged.
func stopAfter(t *testing.T, out string, steps int, signal os.Signal, args ...string) (code int, stderr string) {
	t.Helper()
	c := program(nil, args...)
	var b bytes.Buffer
	c.Stderr = &b
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		log, _ := os.ReadFile(filepath.Join(out, "metrics.jsonl"))
		if bytes.Count(log, []byte("\n")) >= steps {
			break
		}
		if time.Since(begun) > time.Minute {
			_ = c.Process.Kill()
			_ = c.Wait()
			t.Fatalf("no steps: %s", b.String())
		}
	}
	if err := c.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its exit code is the caller's to check
	return c.ProcessState.ExitCode(), b.String()
}

// lastCheckpoint is the newest checkpoint of a run, relative to its folder.
func lastCheckpoint(t *testing.T, out string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(out, "artifacts", "checkpoint", "step-*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no checkpoint in %s (%v)", out, err)
	}
	name, err := filepath.Rel(out, found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// The newest checkpoints are kept; a damaged one is named, left out and not loaded, and the run ends with the same bytes.
func TestDamagedCheckpoints(t *testing.T) {
	data := pairs(t, 60)
	more := []string{"--epochs", "3", "--save-steps", "5", "--num-max-checkpoints", "3"}
	one := append(more[:len(more)-1:len(more)-1], "1") // must not keep a damaged one rather than the newest
	whole, stopped := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	for _, out := range []string{whole, stopped} {
		call(t, "", trainRun(data, out, more...)...).ok(t)
	}
	found, err := filepath.Glob(filepath.Join(stopped, "artifacts", "checkpoint", "step-*"))
	if err != nil || len(found) != 3 {
		t.Fatalf("checkpoints %v, %v", found, err)
	}
	if err := os.Truncate(filepath.Join(found[2], "state.safetensors"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(found[1], "state.json"), []byte(`{"step": 5`), 0o644); err != nil {
		t.Fatal(err)
	}
	o := call(t, "", trainRun(data, stopped, append(one, "--resume")...)...).ok(t)
	for _, path := range found[1:] {
		if !strings.Contains(o.stderr, "the checkpoint "+path+" is damaged and skipped: ") {
			t.Errorf("stderr does not name %s: %s", path, o.stderr)
		}
	}
	sameRun(t, whole, stopped)
	if err := os.WriteFile(filepath.Join(stopped, lastCheckpoint(t, stopped), "state.safetensors"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o = call(t, "", trainRun(data, stopped, append(more, "--resume")...)...)
	if o.code != 1 || !strings.Contains(o.stderr, "all checkpoints in") {
		t.Errorf("without a whole checkpoint: exit %d: %s", o.code, o.stderr)
	}
}

// sameRun compares the bytes and the logged losses of two runs.
func sameRun(t *testing.T, whole, stopped string) {
	t.Helper()
	for _, name := range []string{"model/model.safetensors", "model/model.onnx", lastCheckpoint(t, whole) + "/state.safetensors"} {
		a, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(stopped, name)); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs between the whole and the resumed run (%v)", name, err)
		}
	}
	if a, b := readLosses(t, whole), readLosses(t, stopped); !reflect.DeepEqual(a, b) {
		t.Errorf("the logs differ: %d steps, %d steps", len(a), len(b))
	}
}

func TestBadTrainingData(t *testing.T) {
	good := `{"query":"a","pos":"b"}` + "\n"
	for name, c := range map[string]struct{ content, want string }{
		"empty":        {"", "x.jsonl: the file has no rows"},
		"blank":        {"\n \n", "x.jsonl: the file has no rows"},
		"not JSON":     {good + good + "oops\n", "x.jsonl:3: not JSON"},
		"cut short":    {good + `{"query":"a","po`, "x.jsonl:2: not JSON"},
		"no query":     {good + `{"pos":"b"}`, `x.jsonl:2: "query" is missing`},
		"no pos":       {good + `{"query":"b"}`, `x.jsonl:2: "pos" is missing`},
		"empty text":   {good + `{"query":" ","pos":"b"}`, `x.jsonl:2: "query" is empty`},
		"empty pos":    {good + `{"query":"a","pos":["b",""]}`, `x.jsonl:2: "pos" has an empty text`},
		"wrong type":   {good + `{"query":5,"pos":"b"}`, `x.jsonl:2: "query" is a number, want string`},
		"list":         {good + `["a"]`, "x.jsonl:2: the row is an array, want an object"},
		"bad UTF-8":    {good + "{\"query\":\"a\xc3\",\"pos\":\"b\"}", "x.jsonl:2: not valid UTF-8 at byte 12"},
		"one example":  {good, "x.jsonl has one example, want at least 2: loss_type infonce compares"},
		"no negatives": {good + good, `x.jsonl:1: "neg" is missing or empty, but neg_nums asks for negatives`},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			args := trainRun(write(t, "x.jsonl", c.content), out)
			if name == "no negatives" {
				args = append(args, "--neg-nums", "2")
			}
			call(t, "", args...).fails(t, 1, c.want)
			if _, err := os.Stat(out); err == nil {
				t.Error("the output folder was made")
			}
		})
	}
}

// A NUL is replaced, and a row of 10 MB is a row like any other.
func TestUnusualRowsAreRead(t *testing.T) {
	long := `{"query":"a","pos":"` + strings.Repeat("word ", 2<<20) + `"}`
	data := write(t, "x.jsonl", `{"query":"b\u0000c","pos":"d"}`+"\n"+long+"\n")
	call(t, "", trainRun(data, filepath.Join(t.TempDir(), "out"))...).ok(t)
}

func TestBadCalls(t *testing.T) {
	data := pairs(t, 10)
	config := write(t, "run.yaml", "lr: 1e-3\nlearning_rate: 1\n")
	out, run := filepath.Join(t.TempDir(), "out"), t.TempDir()
	copyFolder(t, tiny, filepath.Join(run, "model"))
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "no command \"trian\" (did you mean train?); see", []string{"trian"}},
		{2, "no kind of model \"llm\"; want", []string{"train", "llm"}},
		{2, "no flag --lrr (did you mean --lr?); see", trainRun(data, out, "--lrr", "1")},
		{2, "no flag --modle (did you mean --model?); see rag-retrieval eval --help", []string{"eval", "--modle", tiny}},
		{2, "no flag --neg-nums for kind reranker: it is for embedding and colbert; see", []string{"train", "reranker", "--neg-nums", "1"}},
		{2, "no kind of model \"embeding\" (did you mean embedding?); want", []string{"train", "embeding", "--model", tiny}},
		{1, "run.yaml:1: model is not a known key (did you mean model_name_or_path?)", trainRun(data, out, "--config", write(t, "run.yaml", "model: m\n"))},
		{1, "run.yaml:1: epoch is not a known key (did you mean epochs?); train embedding --help", trainRun(data, out, "--config", write(t, "run.yaml", "epoch: 1\n"))},
		{1, "reading the model: " + run + " has no model, but its folder model has: did you mean " + run + "/model?", []string{"encode", "--model", run}},
		{2, "unexpected argument \"more\"", trainRun(data, out, "more")},
		{2, "--rule is \"mteb-3\"", []string{"eval", "--model", tiny, "--data", data, "--rule", "mteb-3"}},
		{2, "--as is \"word\"", []string{"encode", "--model", tiny, "--as", "word"}},
		{2, "want --data or --task", []string{"eval", "--model", tiny}},
		{2, "required flag", []string{"rerank"}},
		{2, "want one of --model, --scores and --kind bm25", []string{"eval", "--data", data}},
		{2, "no task \"T9\", want one of T2Reranking", []string{"eval", "--kind", "bm25", "--task", "T9"}},
		{2, "--document and --format table go with --query", []string{"rerank", "--model", tiny, "--document", "x"}},
		{2, "--query has no documents", []string{"rerank", "--model", tiny, "--query", "x"}},
		{1, "no-such-file: no such file", []string{"rerank", "--model", tiny, "no-such-file"}},
		{2, "--provider is \"tpu\"", []string{"rerank", "--model", tiny, "--provider", "tpu"}},
		{2, "--long-docs is \"cut\"", []string{"rerank", "--model", tiny, "--long-docs", "cut"}},
		{2, "--model does not go with --suite", []string{"eval", "--suite", "s.yaml", "--model", tiny}},
		{2, "prompts are for embedding models", []string{"eval", "--model", fixtures + "distilbert-reranker", "--kind", "reranker", "--query-prompt", "x", "--data", data}},
		{2, "want two or more result files", []string{"compare", "a.json", "--format", "json"}},
		{2, "want one file of results", []string{"gate", "--baseline", "b.json"}},
		{1, "no such file or directory; make it with --update", []string{"gate", "--baseline", "b.json", "--max-drop", "1", write(t, "r.json", `{"results":[{"task":"t"}]}`)}},
		{1, "train_dataset is missing", []string{"train", "embedding", "--model", tiny, "--output-dir", out}},
		{1, "lr is -1, want above 0", trainRun(data, out, "--lr", "-1")},
		{1, "lr_schedule", trainRun(data, out, "--lr-schedule", "stairs")},
		{1, "query_max_len is 25, want 3 to 24", trainRun(data, out, "--query-max-len", "25")},
		{1, "run.yaml", trainRun(data, out, "--config", config)},
		{1, "learning_rate", trainRun(data, out, "--config", config)},
		{1, "no such file", trainRun("nowhere.jsonl", out)},
		{1, "no checkpoint", trainRun(data, out, "--resume")},
		{1, "reading the model", []string{"encode", "--model", "nowhere"}},
	} {
		t.Run(c.want, func(t *testing.T) {
			call(t, "", c.args...).fails(t, c.code, c.want)
			if _, err := os.Stat(out); err == nil {
				t.Error("the output folder was made")
			}
		})
	}
}

// copyTiny copies the tiny model, so that a test can break it.
func copyTiny(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
		b, err := os.ReadFile(filepath.Join(tiny, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBadModels(t *testing.T) {
	edit := func(t *testing.T, path, old, replacement string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			if !strings.Contains(string(b), old) {
				t.Fatalf("%s has no %q", path, old)
			}
			err = os.WriteFile(path, []byte(strings.Replace(string(b), old, replacement, 1)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		"truncated": {func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "model.safetensors"), 50_000); err != nil {
				t.Fatal(err)
			}
		}, []string{"model.safetensors: tensor", "the file is cut short"}},
		"shape": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "config.json"), `"vocab_size": 61`, `"vocab_size": 62`)
		},
			[]string{`tensor "embeddings.word_embeddings.weight" has the shape [61 36], config.json says [62 36]`}},
		"architecture": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "config.json"), `"model_type": "bert"`, `"model_type": "gpt2"`)
		},
			[]string{`config.json: model_type is "gpt2", want one of: bert`}},
		"activation": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "config.json"), `"hidden_act": "gelu"`, `"hidden_act": "relu"`)
		},
			[]string{`hidden_act is "relu", want one of: gelu, gelu_pytorch_tanh, silu`}},
		"heads": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "config.json"), `"num_attention_heads": 3`, `"num_attention_heads": 5`)
		},
			[]string{"hidden_size 36 is not a multiple of num_attention_heads 5"}},
		"not JSON": {func(t *testing.T, dir string) { edit(t, filepath.Join(dir, "config.json"), `{`, `[`) },
			[]string{"config.json: "}},
		"tokenizer": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "tokenizer.json"), `"TemplateProcessing"`, `"Other"`)
		},
			[]string{`tokenizer.json: post_processor: type is "Other"`}},
		"lacks a tensor": {func(t *testing.T, dir string) {
			if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), nil, nil); err != nil {
				t.Fatal(err)
			}
		}, []string{`no tensor "embeddings.word_embeddings.weight"`}},
		"not finite": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "model.safetensors")
			b, err := os.ReadFile(path)
			if err == nil {
				copy(b[len(b)-4:], []byte{0, 0, 0xc0, 0x7f})
				copy(b[len(b)-36*36*4-36*4:], []byte{0, 0, 0xc0, 0x7f})
				copy(b[len(b)/2/4*4:], bytes.Repeat([]byte{0xff}, 64))
				err = os.WriteFile(path, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, []string{"is NaN"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, out := copyTiny(t), filepath.Join(t.TempDir(), "out")
			c.spoil(t, dir)
			args := trainRun(pairs(t, 10), out)
			args[3] = dir
			call(t, "", args...).fails(t, 1, c.want...)
			call(t, "", "encode", "--model", dir).fails(t, 1, c.want...)
			if _, err := os.Stat(out); err == nil {
				t.Error("the output folder was made")
			}
		})
	}
}

// A step that overflows ends the run with its rows and the tensor where it began; the checkpoint before it stays.
func TestOverflow(t *testing.T) {
	dir := copyTiny(t)
	path := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []safetensors.Tensor
	for _, tensor := range f.Tensors {
		values, err := f.Float32(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(tensor.Name, "embeddings.LayerNorm.weight") {
			for i := range values {
				values[i] = 1e30
			}
		}
		all = append(all, safetensors.FromFloat32(tensor.Name, values, tensor.Shape...))
	}
	if err := safetensors.Write(path+".new", nil, all); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	data := pairs(t, 10)
	for _, more := range [][]string{nil, {"--chunk-tokens", "40"}} {
		out := filepath.Join(t.TempDir(), "out")
		args := append(trainRun(data, out, "--shuffle=false", "--batch-size", "4"), more...)
		args[3] = dir
		call(t, "", args...).fails(t, 1, "step 1: the loss is ", "no parameter was changed",
			"the first tensor that overflowed is encoder.layer.0/attention/group", data+":1, "+data+":2, "+data+":3, "+data+":4")
		for _, name := range []string{"model", "artifacts/checkpoint"} {
			if _, err := os.Stat(filepath.Join(out, name)); err == nil {
				t.Errorf("%s was written", name)
			}
		}
	}
}

func TestNoLibrary(t *testing.T) {
	env := []string{"RAG_RETRIEVAL_ORT_LIB=/nowhere/libonnxruntime.so"}
	out := filepath.Join(t.TempDir(), "out")
	callEnv(t, env, "", trainRun(pairs(t, 10), out)...).fails(t, 1, "RAG_RETRIEVAL_ORT_LIB", "/nowhere/libonnxruntime.so")
	if _, err := os.Stat(out); err == nil {
		t.Error("the output folder was made")
	}
	text := write(t, "libonnxruntime.so", "not a library")
	callEnv(t, []string{"RAG_RETRIEVAL_ORT_LIB=" + text}, "", "encode", "--model", tiny).
		fails(t, 1, "loading ONNX Runtime from "+text, "run scripts/setup.sh")
	if o := callEnv(t, env, "", "doctor"); o.code != 1 || !strings.Contains(o.stdout, "MISSING") {
		t.Errorf("doctor: exit %d: %s", o.code, o.stdout)
	}
	if o := call(t, "", "doctor").ok(t); strings.Contains(o.stdout, "MISSING") {
		t.Errorf("doctor: %s", o.stdout)
	}
}

func TestDryRunAndArtifacts(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	o := call(t, "", trainRun(pairs(t, 40), out, "--dry-run")...).ok(t)
	for _, want := range []string{
		"architecture: bert: 2 layers, ", "config.json, understood: ", "config.json, ignored: use_cache=true: ",
		"embedding: the mean of the tokens' states, normalized; 36 numbers\n", "40 examples, 10 steps",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("dry run: %q is not in %s", want, o.stdout)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a dry run made the output folder")
	}
	args := []string{"artifacts", "embedding", "--model", tiny, "--output-dir", out, "--query-max-len", "10", "--passage-max-len", "12"}
	call(t, "", args...).ok(t)
	for _, name := range []string{"training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint/step-00000000/state.json"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	call(t, "", args...).fails(t, 1, "is not empty")
}

// doctor says what is understood of a model, of the kind that it says itself to be or that is asked for.
func TestDoctorOfAModel(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{tiny}, "\nembedding: the mean of the tokens' states, normalized; 36 numbers\n"},
		{[]string{tiny, "--kind", "colbert"}, "\ncolbert: each token's state projected to "},
		{[]string{fixtures + "bert-reranker"}, "\nreranker: BertForSequenceClassification: the first token's state through pooler.dense, classifier\n"},
		{[]string{"../../models/encoder/testdata/qwen3-reranker"}, "\nreranker: Qwen3ForSequenceClassification: the last token's state through score\n"},
		{[]string{"../../models/encoder/testdata/modernbert"}, "rotary positions of base 160 in 2 of 4 layers"},
	} {
		o := call(t, "", append([]string{"doctor", "--model"}, c.args...)...).ok(t)
		for _, want := range []string{c.want, "a session", "architecture: ", "config.json, understood: ", "config.json, ignored: transformers_version="} {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%v: %q is not in %s", c.args, want, o.stdout)
			}
		}
	}
	dir := t.TempDir()
	for text, want := range map[string]string{`{"model_type": "gpt2"}`: `config.json: model_type is "gpt2", want one of: bert, `, `{"model_type": `: "config.json: unexpected end of JSON input"} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		call(t, "", "doctor", "--model", dir).fails(t, 1, want)
	}
	call(t, "", "doctor", "--kind", "reranker").fails(t, 2, "--kind is of --model")
}

func TestHelpAtEachLevel(t *testing.T) {
	for _, args := range [][]string{{}, {"train"}, {"train", "embedding"}, {"eval"}, {"encode"}, {"artifacts"}, {"artifacts", "embedding"}, {"doctor"}} {
		o := call(t, "", append(args, "--help")...).ok(t)
		if !strings.Contains(o.stdout, "rag-retrieval "+strings.Join(args, " ")) || !strings.Contains(o.stdout, "Example") {
			t.Errorf("%v: %s", args, o.stdout)
		}
		if strings.Contains(o.stdout, "see above") && len(args) > 1 && !strings.Contains(o.stdout, "Losses (--loss-type):") {
			t.Errorf("%v: no list of losses above: %s", args, o.stdout)
		}
	}
	for same, ways := range map[string][][]string{
		"":                {{"help"}, {"-h"}, {"help", "help"}},
		"eval":            {{"help", "eval"}, {"--help", "eval"}, {"eval", "--help", "test.jsonl"}, {"eval", "test.jsonl", "-h"}, {"eval", "help"}, {"eval", "--model", "help", "-h"}},
		"search":          {{"search", "--help", "a query"}},
		"train":           {{"help", "train"}, {"train", "help"}},
		"train embedding": {{"help", "train", "embedding"}, {"train", "help", "embedding"}, {"train", "--help", "embedding"}, {"train", "embedding", "--help", "pairs.jsonl"}},
	} {
		want := call(t, "", append(strings.Fields(same), "--help")...).ok(t).stdout
		for _, way := range ways {
			if got := call(t, "", way...).ok(t).stdout; got != want {
				t.Errorf("%v: %s, want %s", way, got, want)
			}
		}
	}
	call(t, "", "help", "evla").fails(t, 2, `no command "evla" (did you mean eval?)`)
	call(t, "", "--help", "evla").fails(t, 2, `no command "evla" (did you mean eval?)`)
	for _, c := range app().Commands { // one line, not the whole help
		call(t, "", c.Name, "--no-such-flag").fails(t, 2, "; see rag-retrieval "+c.Name+" --help")
	}
	for _, word := range []string{"version", "--version"} {
		if o := call(t, "", word).ok(t); !strings.Contains(o.stdout, "rag-retrieval "+version) {
			t.Errorf("%s: %s", word, o.stdout)
		}
	}
}
