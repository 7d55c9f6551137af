package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// mpirun calls the program as a job of n ranks.
func mpirun(t *testing.T, n int, args ...string) output {
	t.Helper()
	return mpirunWith(t, n, "", args...)
}

// mpirunWith is mpirun with rank 0's input.
func mpirunWith(t *testing.T, n int, stdin string, args ...string) output {
	t.Helper()
	c := disttest.Command(t, n, os.Args[0], args...)
	c.Env = append(c.Env, asProgram+"=1")
	var out, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &stderr
	if e := c.Run(); e != nil {
		var exit *exec.ExitError
		if !errors.As(e, &exit) {
			t.Fatal(e)
		}
	}
	return output{c.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// rerankerRows are pairs whose passages differ in length. With 17 of them, some ranks have no row in an epoch's last batch.
func rerankerRows(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"query":"a b %s","content":"%s","label":%d}`+"\n", strings.Repeat("c ", i%3), strings.Repeat("d e ", 1+i%5), i%2)
	}
	return b.String()
}

// losses are those of a run's steps.
func losses(t *testing.T, dir string) (out []float64) {
	t.Helper()
	f, err := jsonl.Open(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range f.Len() {
		var row struct {
			Loss float64 `json:"loss"`
		}
		if err := f.Row(i, &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row.Loss)
	}
	return out
}

// pairRows are pairs with hard negatives. Some queries and passages come twice, on different ranks.
func pairRows(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"query":"the %c %s","pos":"%c er %s","neg":["the er %c","%c %s er","er er %d"]}`+"\n", 'a'+i%7, strings.Repeat("of ", i%3), 'a'+i%11,
			strings.Repeat("in ", i%5), 'a'+i%3, 'b'+i%5, strings.Repeat("to ", 1+i%4), i)
	}
	return b.String()
}

// inFloat32 is for runs that are equal to rounding: bfloat16, which some CPUs take by default, rounds more.
var inFloat32 = []string{"--mixed-precision", "no"}

// Ranks that share a batch train as one rank with all of it: the same losses and parameters, with ranks whose shares differ.
func TestRanksTrainAsOne(t *testing.T) {
	testdata := filepath.Join("..", "..", "models", "finetune", "testdata")
	pairs, labels := write(t, "pairs.jsonl", pairRows(17)), write(t, "rows.jsonl", rerankerRows(17))
	embedding := []string{"embedding", "--model", tiny, "--train-dataset", pairs, "--query-max-len", "8", "--passage-max-len", "10", "--temperature", "0.1"}
	colbert := []string{"colbert", "--model", filepath.Join(testdata, "bert"), "--train-dataset", pairs, "--query-max-len", "8", "--passage-max-len", "10", "--colbert-dim", "8"}
	for name, args := range map[string][]string{
		"reranker":                       {"reranker", "--model", filepath.Join(testdata, "bert-reranker"), "--train-dataset", labels, "--max-len", "16"},
		"embedding":                      embedding,
		"embedding, accumulation":        append(slices.Clone(embedding), "--neg-nums", "2", "--gradient-accumulation-steps", "2", "--epochs", "8"),
		"embedding, only hard negatives": append(slices.Clone(embedding), "--neg-nums", "2", "--negatives", "hard", "--chunk-tokens", "12", "--use-mrl", "--mrl-dims", "36,8"),
		"colbert":                        colbert,
		"colbert, hard negatives":        append(slices.Clone(colbert), "--neg-nums", "3", "--chunk-tokens", "16"),
	} {
		t.Run(name, func(t *testing.T) { ranksTrainAsOne(t, args) })
	}
}

func ranksTrainAsOne(t *testing.T, kind []string) {
	run := func(n, batch int) string {
		dir := filepath.Join(t.TempDir(), "out")
		args := []string{"train", kind[0], "--output-dir", dir, "--batch-size", fmt.Sprint(batch), "--dropout", "0", "--epochs", "5", "--lr", "1e-3", "--threads", "1", "--check-steps", "1"}
		o := mpirun(t, n, slices.Concat(args, inFloat32, kind[1:])...).ok(t)
		if o.stdout != filepath.Join(dir, "model")+"\n" {
			t.Errorf("%d ranks print %q", n, o.stdout)
		}
		return dir
	}
	one := run(1, 8)
	for _, n := range []int{2, 4} {
		many := run(n, 8/n)
		a, b := losses(t, one), losses(t, many)
		if len(a) < 10 || len(a) != len(b) {
			t.Fatalf("%d ranks: %d steps, of one rank %d", n, len(b), len(a))
		}
		for i := range a {
			if math.Abs(a[i]-b[i]) > 1e-5*math.Abs(a[i]) {
				t.Errorf("%d ranks: step %d has the loss %.8g, of one rank %.8g", n, i+1, b[i], a[i])
			}
		}
		sameWeights(t, filepath.Join(one, "model"), filepath.Join(many, "model"), 1e-5)
		if b, err := os.ReadFile(filepath.Join(many, "metrics.jsonl")); err != nil || strings.Count(string(b), `"transfer_seconds":`) != len(losses(t, many)) {
			t.Errorf("%d ranks: not every step says how long transfers took, %v: %s", n, err, b)
		}
	}
}

// sameWeights compares every tensor of two folders, by the largest element of each.
func sameWeights(t *testing.T, a, b string, within float64) {
	t.Helper()
	x, err := safetensors.Open(filepath.Join(a, hf.SafetensorsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	y, err := safetensors.Open(filepath.Join(b, hf.SafetensorsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	for _, tensor := range x.Tensors {
		name := tensor.Name
		p, err := x.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		q, err := y.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		scale, far := 0.0, 0.0
		for i := range p {
			scale, far = max(scale, math.Abs(float64(p[i]))), max(far, math.Abs(float64(p[i]-q[i])))
		}
		if strings.HasSuffix(name, "attention.self.key.bias") { // its true gradient is zero: AdamW enlarges rounding
			scale *= 100
		}
		if far > within*scale {
			t.Errorf("%s differs by %g of %g", name, far, scale)
		}
	}
}

// A command that would be done by every rank as a whole is refused.
func TestRanksDoNotRepeatWork(t *testing.T) {
	for _, args := range [][]string{
		{"gate", "--baseline", "a", "b"},
		{"compare", "a", "b"}, {"artifacts", "embedding", "--model", tiny, "--output-dir", "x"},
	} {
		callEnv(t, []string{"PMI_SIZE=2"}, "", args...).fails(t, exitUsage, args[0]+" ", "does not divide its work", "2 processes")
	}
}

// Whatever one rank finds wrong ends all of them, with its message.
func TestRanksFailTogether(t *testing.T) {
	base := filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker")
	o := mpirun(t, 2, "train", "reranker", "--model", base, "--max-len", "16", "--train-dataset", "none.jsonl", "--output-dir", filepath.Join(t.TempDir(), "out"))
	if o.code == 0 || strings.Count(o.stderr, "none.jsonl") != 1 || !strings.Contains(o.stderr, "rag-retrieval: all ranks: ") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// A rank that cannot read its configuration ends the others too, which would otherwise wait for it in MPI.
func TestRankWithoutConfig(t *testing.T) {
	args := []string{"train", "reranker", "--model", filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker"), "--max-len", "16",
		"--train-dataset", write(t, "rows.jsonl", rerankerRows(4)), "--output-dir", filepath.Join(t.TempDir(), "out")}
	c := disttest.Command(t, 1, os.Args[0], args...)
	c.Args = append(append(c.Args, ":", "-n", "1", os.Args[0]), append(args, "--config", "none.yaml")...)
	c.Env = append(c.Env, asProgram+"=1")
	c.WaitDelay = time.Minute
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() {
		for range 2 { // a rank that waits in MPI does not see the first
			_ = c.Process.Signal(syscall.SIGINT)
			time.Sleep(time.Second)
		}
	})
	if err := c.Wait(); err == nil || !late.Stop() || !strings.Contains(out.String(), "none.yaml") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// What all ranks have to say is printed once; what only another rank has to say carries its number. stdout is rank 0's.
func TestRankMessages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	rows := write(t, "rows.jsonl", rerankerRows(8)+`{"query":"no passage"}`+"\n")
	settings := write(t, "run.yaml", fmt.Sprintf("kind: reranker\nmodel_name_or_path: %s\ntrain_dataset: %s\noutput_dir: %s\nmax_len: 16\nthreads: 1\nskip_bad_rows: true\n",
		filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker"), rows, dir))
	c := disttest.Command(t, 1, os.Args[0], "train", "--config", settings)
	c.Args = append(c.Args, ":", "-n", "1", os.Args[0], "train", "--config", settings, "--neg-nums", "2")
	c.Env = append(c.Env, asProgram+"=1")
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	said := "\n" + stderr.String()
	if strings.Count(said, "\n1 bad rows were left out") != 1 || strings.Count(said, "bad rows") != 1 || strings.Count(said, "\nrank 1: --neg-nums is not used here: ") != 1 {
		t.Error(said)
	}
	if out.String() != filepath.Join(dir, "model")+"\n" {
		t.Errorf("stdout is %q", out.String())
	}
}

// A dry run says the plan of the whole job, once. So are the notes of a job that fails before its first step.
func TestRanksPrintOnce(t *testing.T) {
	rows, dir := write(t, "rows.jsonl", pairRows(40)), t.TempDir()
	note := `neg_nums: with 0 the rows' "neg" is ignored`
	o := mpirun(t, 2, trainRun(rows, filepath.Join(dir, "out"), "--dry-run")...).ok(t)
	if strings.Count(o.stdout, "40 examples, 6 steps of 2 ranks × 1 × 8, ") != 1 || strings.Count(o.stdout, "nothing was written") != 1 ||
		strings.Count(o.stderr, note) != 1 {
		t.Errorf("stdout %q, stderr %q", o.stdout, o.stderr)
	}
	o = mpirun(t, 2, trainRun(rows, filepath.Dir(rows))...) // a folder that is not empty
	if o.code != exitError || strings.Count(o.stderr, "is not empty") != 1 || strings.Count(o.stderr, note) != 1 {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

// A rank whose data file has other rows, under the same name, is refused.
func TestRanksReadTheSameRows(t *testing.T) {
	base, err := filepath.Abs(filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Dir(write(t, "rows.jsonl", rerankerRows(8))), filepath.Dir(write(t, "rows.jsonl", rerankerRows(9)))
	program := []string{os.Args[0], "train", "reranker", "--model", base, "--train-dataset", "rows.jsonl", "--output-dir", "out", "--max-len", "16"}
	if program[0], err = filepath.Abs(program[0]); err != nil {
		t.Fatal(err)
	}
	c := disttest.Command(t, 1, "-wdir", append([]string{first}, program...)...)
	c.Args = append(append(c.Args, ":", "-n", "1", "-wdir", second), program...)
	c.Env = append(c.Env, asProgram+"=1")
	out, err := c.CombinedOutput()
	if err == nil || strings.Count(string(out), "rank 1: it differs from rank 0: train_dataset rows.jsonl was ") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// A rank whose base model has another tokenizer, under the same name, is refused.
func TestRanksReadTheSameModel(t *testing.T) {
	rows, err := filepath.Abs(write(t, "rows.jsonl", rerankerRows(8)))
	if err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{t.TempDir(), t.TempDir()}
	for i, dir := range folders {
		if err := os.CopyFS(filepath.Join(dir, "model"), os.DirFS(fixtures+"bert-reranker")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "model", "tokenizer_config.json"), fmt.Appendf(nil, `{"do_lower_case": %v}`, i == 0), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{program, "train", "reranker", "--model", "model", "--train-dataset", rows, "--output-dir", "out", "--max-len", "16"}
	c := disttest.Command(t, 1, "-wdir", append([]string{folders[0]}, args...)...)
	c.Args = append(append(c.Args, ":", "-n", "1", "-wdir", folders[1]), args...)
	c.Env = append(c.Env, asProgram+"=1")
	out, err := c.CombinedOutput()
	if err == nil || strings.Count(string(out), "rank 1: it differs from rank 0: model_name_or_path tokenizer_config.json is 24 bytes with ") != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// A job that is resumed with another number of ranks is the job that was never stopped, to rounding, where the ranks have the same
// examples together; else it is refused.
func TestRanksResumeOnOthers(t *testing.T) {
	testdata := filepath.Join("..", "..", "models", "finetune", "testdata")
	reranker := []string{"reranker", "--model", filepath.Join(testdata, "bert-reranker"), "--train-dataset", write(t, "rows.jsonl", rerankerRows(21)), "--max-len", "16"}
	pairs := []string{"embedding", "--model", tiny, "--train-dataset", write(t, "pairs.jsonl", pairRows(21)), "--query-max-len", "8", "--passage-max-len", "10",
		"--temperature", "0.1", "--neg-nums", "2"}
	type run struct{ ranks, batchSize, accumulation int }
	for _, x := range []struct {
		name    string
		args    []string
		runs    []run // each goes on after the one before
		refused run
		why     string
	}{
		{"reranker", reranker, []run{{1, 8, 1}, {2, 4, 1}, {4, 2, 1}, {2, 2, 2}, {1, 8, 1}}, run{2, 8, 1}, "a step had 8 examples (1 ranks"},
		{"embedding", pairs, []run{{1, 8, 1}, {2, 4, 1}, {4, 2, 1}, {1, 8, 1}}, run{2, 2, 2}, "loss_type infonce compared 8 examples"},
	} {
		t.Run(x.name, func(t *testing.T) {
			do := func(dir string, r run, more ...string) output {
				args := append([]string{"train", x.args[0], "--output-dir", dir, "--batch-size", fmt.Sprint(r.batchSize), "--gradient-accumulation-steps",
					fmt.Sprint(r.accumulation), "--dropout", "0", "--epochs", "5", "--lr", "1e-3", "--threads", "1", "--save-steps", "3", "--num-max-checkpoints", "9"}, x.args[1:]...)
				return mpirun(t, r.ranks, slices.Concat(args, inFloat32, more)...)
			}
			whole, moved := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "moved")
			do(whole, x.runs[0]).ok(t)
			for i, r := range x.runs {
				if i == 0 {
					do(moved, r).ok(t)
				} else {
					do(moved, r, "--resume").ok(t)
				}
				if i < len(x.runs)-1 {
					keepCheckpoints(t, moved, i+1)
				}
				if o := do(moved, x.refused, "--resume"); i == 0 && (o.code == 0 || strings.Count(o.stderr, x.why) != 1) {
					t.Errorf("exit %d: %s", o.code, o.stderr)
				}
			}
			sameWeights(t, filepath.Join(whole, "model"), filepath.Join(moved, "model"), 1e-5)
			a, b := losses(t, whole), losses(t, moved)
			if len(a) != 15 || len(b) != len(a) {
				t.Fatalf("%d and %d steps", len(a), len(b))
			}
			for i := range a {
				if math.Abs(a[i]-b[i]) > 1e-5*math.Abs(a[i]) {
					t.Errorf("step %d has the loss %.8g, of one rank %.8g", i+1, b[i], a[i])
				}
			}
		})
	}
}

// keepCheckpoints makes an output folder that of a run that died after its first n checkpoints.
func keepCheckpoints(t *testing.T, dir string, n int) {
	t.Helper()
	checkpoints, err := filepath.Glob(filepath.Join(dir, "artifacts", "checkpoint", "*"))
	if err != nil || len(checkpoints) <= n {
		t.Fatalf("%v, %v", checkpoints, err)
	}
	for _, p := range append(checkpoints[n:], filepath.Join(dir, "model")) {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

// A job that is resumed is the job that was never stopped, byte for byte, with dropout.
func TestRanksResume(t *testing.T) {
	rows, base := write(t, "rows.jsonl", rerankerRows(21)), filepath.Join("..", "..", "models", "finetune", "testdata", "bert-reranker")
	args := func(dir string, more ...string) []string {
		return append([]string{"train", "reranker", "--model", base, "--train-dataset", rows, "--output-dir", dir, "--batch-size", "4",
			"--max-len", "16", "--dropout", "0.1", "--epochs", "4", "--lr", "1e-3", "--threads", "1", "--save-steps", "5"}, more...)
	}
	whole, stopped := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	mpirun(t, 2, args(whole)...).ok(t)
	mpirun(t, 2, args(stopped)...).ok(t)
	// As if it had died after the checkpoint of step 5.
	keepCheckpoints(t, stopped, 1)
	mpirun(t, 2, args(stopped, "--resume")...).ok(t)
	a, err := os.ReadFile(filepath.Join(whole, "model", hf.SafetensorsFile))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(stopped, "model", hf.SafetensorsFile))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the resumed job's weights differ, %v", err)
	}
}

// Ranks that share a validation find what one rank finds: its loss and MAP, the best model, and when to stop.
func TestRanksValidateAsOne(t *testing.T) {
	validations := func(n int, args ...string) []finetune.Validation {
		dir := filepath.Join(t.TempDir(), "out")
		mpirun(t, n, append(append([]string{"train"}, args...), "--output-dir", dir, "--dropout", "0", "--threads", "1", "--eval-steps", "2")...).ok(t)
		rows, err := jsonl.ReadLog[finetune.Validation](filepath.Join(dir, finetune.ValidationFile))
		if err != nil || len(rows) == 0 {
			t.Fatalf("%d validations, %v", len(rows), err)
		}
		return rows
	}
	same := func(n int, got, want []finetune.Validation, within float64) {
		if len(got) != len(want) {
			t.Fatalf("%d ranks: %d validations, want %d", n, len(got), len(want))
		}
		for i, x := range got {
			if far := math.Abs(x.Loss-want[i].Loss) / want[i].Loss; far > within || x.MAP != want[i].MAP || x.Best != want[i].Best || x.Step != want[i].Step {
				t.Errorf("%d ranks: %+v, want %+v", n, x, want[i])
			}
		}
	}
	// Of the base model: the loss compares the queries of the job's batch, or of a rank's, and the last batch is short.
	train, val := pairs(t, 40), pairs(t, 31)
	for _, x := range []struct{ kind, model, gather string }{{"embedding", tiny, "true"}, {"embedding", tiny, "false"}, {"colbert", fixtures + "bert", "true"}} {
		args := func(ranks int) []string {
			batch := 6
			if x.gather == "true" {
				batch /= ranks
			}
			return []string{x.kind, "--model", x.model, "--train-dataset", train, "--val-dataset", val, "--batch-size", fmt.Sprint(batch),
				"--max-steps", "2", "--query-max-len", "10", "--passage-max-len", "12", "--all-gather=" + x.gather}
		}
		one := validations(1, args(1)...)
		for _, n := range []int{2, 3} {
			same(n, validations(n, args(n)...)[:1], one[:1], 1e-6)
		}
	}
	// Of the models of a run, whose batch is the same for any number of ranks.
	base, rows := fixtures+"bert-reranker", write(t, "rows.jsonl", rerankerRows(17))
	args := func(batch int) []string {
		return []string{"reranker", "--model", base, "--train-dataset", rows, "--val-dataset", rows, "--max-len", "16", "--batch-size", fmt.Sprint(batch),
			"--epochs", "10", "--lr", "2e-2", "--early-stop", "2"}
	}
	same(2, validations(2, args(4)...), validations(1, args(8)...), 1e-4)
}

// Rank 0 says once what looks wrong, in the words of a run of one rank; without validation data too.
func TestRanksWarnOnce(t *testing.T) {
	var b strings.Builder
	for i := range 8 { // each query's own text is the passage of another row
		fmt.Fprintf(&b, `{"query": "the %c of", "pos": "the %c of"}`+"\n", 'a'+i, 'a'+(i+1)%8)
	}
	rows := write(t, "rows.jsonl", b.String())
	warning := func(n int, args ...string) string {
		t.Helper()
		args = append([]string{"train", "embedding", "--model", tiny, "--train-dataset", rows, "--output-dir", filepath.Join(t.TempDir(), "out"), "--temperature", "0.0005",
			"--dropout", "0", "--batch-size", fmt.Sprint(8 / n), "--max-steps", "1", "--shuffle=false", "--threads", "1", "--query-max-len", "10", "--passage-max-len", "10"}, args...)
		shown := mpirun(t, n, args...).ok(t).stderr
		var found []string
		for _, line := range strings.Split(shown, "\n") {
			if strings.Contains(line, "far too high: ") {
				found = append(found, line)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%d ranks, %d warnings:\n%s", n, len(found), shown)
		}
		return found[0]
	}
	for _, args := range [][]string{nil, {"--val-dataset", rows}} {
		if one, two := warning(1, args...), warning(2, args...); one != two {
			t.Errorf("%q: two ranks say %q", one, two)
		}
	}
}
