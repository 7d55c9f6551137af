package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/index/pgvector/pgtest"
)

// mined is a row of the default format.
type mined struct {
	Query     string
	Pos, Neg  []string
	PosScores []float64 `json:"pos_scores"`
	NegScores []float64 `json:"neg_scores"`
}

func readRows[T any](t *testing.T, path string) (out []T) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var row T
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, row)
	}
	return out
}

// What is mined trains a model, and what mines again finds other negatives.
func TestMineAndTrain(t *testing.T) {
	data, out := pairs(t, 60), filepath.Join(t.TempDir(), "mined.jsonl")
	report := filepath.Join(t.TempDir(), "report.json")
	o := call(t, "", "mine", "--model", tiny, "--train-dataset", data, "--output", out, "--output-scores", "--relative-margin", "0.001", "--json", report).ok(t)
	for _, want := range []string{"queries with enough negatives", "candidates dropped by relative_margin", "rows for " + out} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("%q is not in %s", want, o.stderr)
		}
	}
	rows := readRows[mined](t, out)
	var r struct {
		Rows, Queries, Kept int
		TooFew              int `json:"too_few"`
		Options             struct {
			NumNegatives int `json:"num_negatives"`
		}
	}
	readJSON(t, report, &r)
	if len(rows) == 0 || r.Rows != len(rows) || r.Kept+r.TooFew != len(rows) || r.Options.NumNegatives != 3 || o.stdout != "" {
		t.Errorf("%d rows, report %+v, stdout %q", len(rows), r, o.stdout)
	}
	for _, x := range rows {
		if len(x.Pos) != len(x.PosScores) || len(x.Neg) != len(x.NegScores) || len(x.Neg) == 0 {
			t.Fatalf("%+v", x)
		}
		for i, n := range x.Neg {
			if n == x.Pos[0] || n == x.Query || x.NegScores[i] > x.PosScores[0] {
				t.Errorf("%+v", x)
			}
		}
	}
	call(t, "", trainRun(out, filepath.Join(t.TempDir(), "model"), "--neg-nums", "2")...).ok(t)
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("RAG_RETRIEVAL_HOME"), "vectors", "*")); len(left) > 0 {
		t.Errorf("the cache keeps %v", left)
	}
}

// corpusFile is a corpus of n documents over the tiny model's letters.
func corpusFile(t *testing.T, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"_id": "d%d", "title": "%c", "text": "%s%d"}`+"\n", i, 'a'+i%26, strings.Repeat("the er ", i%7), i)
	}
	return write(t, "docs.jsonl", b.String())
}

// Every format, a corpus, a cross-encoder, words, and a folder of vectors that a second call finds.
func TestMineWays(t *testing.T) {
	data, docs, vectors := pairs(t, 30), corpusFile(t, 50), filepath.Join(t.TempDir(), "vectors")
	out := filepath.Join(t.TempDir(), "mined.jsonl")
	rows := func(args ...string) []map[string]any {
		t.Helper()
		call(t, "", append([]string{"mine", "--train-dataset", data, "--output", out, "--num-negatives", "2"}, args...)...).ok(t)
		return readRows[map[string]any](t, out)
	}
	for format, want := range map[string]struct {
		rows int
		keys string
	}{
		"rows": {30, "query pos neg"}, "triplet": {60, "query positive negative"}, "n-tuple": {30, "query positive negative_1 negative_2"},
		"labeled-pair": {90, "query positive label"}, "labeled-list": {30, "query positive labels"},
	} {
		got := rows("--model", tiny, "--corpus", docs, "--vectors", vectors, "--output-format", format)
		if len(got) != want.rows || len(got[0]) != len(strings.Fields(want.keys)) {
			t.Errorf("%s: %d rows: %v", format, len(got), got[0])
		}
		for _, key := range strings.Fields(want.keys) {
			if got[0][key] == nil {
				t.Errorf("%s: no %q in %v", format, key, got[0])
			}
		}
	}
	if got := rows("--model", tiny, "--include-positives", "--num-negatives", "1"); got[0]["negative_1"] == nil {
		t.Errorf("%v", got[0])
	}
	if got := rows("--kind", "bm25"); len(got) == 0 {
		t.Error("no rows")
	}
	crossed := rows("--model", tiny, "--cross-encoder", fixtures+"bert-reranker", "--max-score", "0.99", "--output-scores")
	for _, s := range crossed[0]["neg_scores"].([]any) {
		if x := s.(float64); x <= 0 || x >= 1 { // of the sigmoid
			t.Errorf("score %g", x)
		}
	}
	call(t, "", "mine", "--model", tiny, "--train-dataset", data, "--vectors", vectors, "--output", out).fails(t, exitError, vectors, "other vectors")
}

// An index in a folder or a database in place of the corpus gives the negatives that the corpus gives, also on several ranks.
func TestMineIndex(t *testing.T) {
	data, docs, dir := pairs(t, 60), corpusFile(t, 1300), t.TempDir()
	folder := filepath.Join(dir, "index")
	call(t, "", "index", "--model", tiny, "--corpus", docs, "--output", folder, "--threads", "1").ok(t)
	mine := func(ranks int, name string, args ...string) string {
		t.Helper()
		out := filepath.Join(dir, name)
		mpirun(t, ranks, append([]string{"mine", "--train-dataset", data, "--output", out, "--output-scores", "--range-min", "2", "--threads", "1"}, args...)...).ok(t)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := mine(1, "corpus", "--model", tiny, "--corpus", docs)
	indexed := mine(1, "indexed", "--index", folder)
	if !sameNegatives(t, indexed, want) {
		t.Error("the index gives other negatives than the corpus")
	}
	if got := mine(2, "ranks", "--index", folder); got != indexed {
		t.Error("two ranks give other rows of the index")
	}
	if want == "" {
		t.Error("no rows")
	}
	url := pgtest.URL(t) // skips where there is no server
	call(t, "", "index", "--model", tiny, "--corpus", docs, "--store", url, "--ann", "exact", "--threads", "1").ok(t)
	if got := mine(1, "store", "--store", url); !sameNegatives(t, got, want) {
		t.Error("the database gives other negatives than the corpus")
	}
}

// sameNegatives says whether two files have the same rows. Their scores may differ in their last bits: documents are encoded beside
// others, and a database has its own product.
func sameNegatives(t *testing.T, a, b string) bool {
	t.Helper()
	x, y := readRows[mined](t, write(t, "a", a)), readRows[mined](t, write(t, "b", b))
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if fmt.Sprint(x[i].Pos, x[i].Neg) != fmt.Sprint(y[i].Pos, y[i].Neg) {
			return false
		}
	}
	return true
}

// The random strategy is reproducible, and the seed counts.
func TestMineSeed(t *testing.T) {
	data, dir := pairs(t, 40), t.TempDir()
	mine := func(name, seed string) string {
		out := filepath.Join(dir, name)
		call(t, "", "mine", "--model", tiny, "--train-dataset", data, "--output", out, "--sampling-strategy", "random", "--range-max", "20", "--seed", seed).ok(t)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := mine("a", "1")
	if again := mine("b", "1"); again != first {
		t.Error("the same seed gives other rows")
	}
	if other := mine("c", "2"); other == first {
		t.Error("another seed gives the same rows")
	}
}

// An encoding that was interrupted goes on, to the same bytes, and leaves nothing half-written.
func TestMineGoesOn(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	model, data, docs := encodertest.Wide(t, fixtures+"bert/vocab.txt"), pairs(t, 30), corpusFile(t, 4000)
	args := func(out string) []string {
		return []string{"mine", "--model", model, "--kind", "embedding", "--train-dataset", data, "--corpus", docs, "--output", filepath.Join(dir, out), "--threads", "1"}
	}
	call(t, "", args("whole")...).ok(t)
	c := program(nil, args("stopped")...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	encoded := func() int64 {
		files, _ := filepath.Glob(filepath.Join(home, "vectors", "*", "vectors.npy"))
		for _, f := range files {
			if st, err := os.Stat(f); err == nil {
				return st.Size()
			}
		}
		return 0
	}
	for end := time.Now().Add(time.Minute); encoded() < 1000 && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
	_ = c.Process.Signal(os.Interrupt)
	_ = c.Wait() // its exit code tells
	before := encoded()
	if c.ProcessState.ExitCode() != exitInterrupted || before < 1000 {
		t.Fatalf("exit %d with %d bytes: %s", c.ProcessState.ExitCode(), before, stderr.String())
	}
	if want := "rag-retrieval: interrupted: the same command goes on: whole groups of 1024 encoded documents are kept\n"; !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("the last line is not %s: %s", want, stderr.String())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	call(t, "", args("stopped")...).ok(t)
	whole, err := os.ReadFile(filepath.Join(dir, "whole"))
	if err != nil {
		t.Fatal(err)
	}
	if went, err := os.ReadFile(filepath.Join(dir, "stopped")); err != nil || !bytes.Equal(went, whole) {
		t.Errorf("the call that went on wrote other bytes (%v)", err)
	}
}

func TestMineRefuses(t *testing.T) {
	data, out := pairs(t, 5), filepath.Join(t.TempDir(), "mined.jsonl")
	base := []string{"mine", "--train-dataset", data, "--output", out}
	for _, x := range []struct {
		code int
		want string
		args []string
	}{
		{2, "want one of --model, --index, --store and --kind bm25", nil},
		{2, "want one of --model, --index, --store and --kind bm25", []string{"--model", tiny, "--kind", "bm25"}},
		{2, "want either --index or --store", []string{"--index", "x", "--store", "y"}},
		{2, "--query-prompt is not used: the index says it", []string{"--index", "x", "--query-prompt", "y"}},
		{2, `--kind is "colbert", want embedding or bm25`, []string{"--model", tiny, "--kind", "colbert"}},
		{2, "--vectors is for an embedding model", []string{"--kind", "bm25", "--vectors", "x"}},
		{2, "--num-negatives is 0", []string{"--model", tiny, "--num-negatives", "0"}},
		{2, "--range-max is 4: after range-min 2 it leaves fewer than num-negatives 3", []string{"--model", tiny, "--range-min", "2", "--range-max", "4"}},
		{2, "--cross-encoder is not used without absolute-margin", []string{"--model", tiny, "--cross-encoder", "x"}},
		{2, `--sampling-strategy is "best"`, []string{"--model", tiny, "--sampling-strategy", "best"}},
		{2, "--seed is for --sampling-strategy random", []string{"--model", tiny, "--seed", "7"}},
		{2, `--output-format is "csv"`, []string{"--model", tiny, "--output-format", "csv"}},
		{2, "--include-positives writes n-tuple, not triplet", []string{"--model", tiny, "--include-positives", "--output-format", "triplet"}},
		{1, "none is no folder", []string{"--model", "none"}},
		{1, "is a model of kind colbert", []string{"--model", oneOf["colbert"]}},
		{1, `docs.jsonl:1: "_id" (or "id") is missing`, []string{"--model", tiny, "--corpus", write(t, "docs.jsonl", `{"text":"a"}`)}},
		{1, "open none.jsonl: no such file", []string{"--model", tiny, "--corpus", "none.jsonl"}},
		{1, "no query has negatives", []string{"--model", tiny, "--max-score", "-2"}},
		{1, "no query has the 100000 negatives that n-tuple needs", []string{"--model", tiny, "--output-format", "n-tuple", "--num-negatives", "100000"}},
		{1, "--json: ", []string{"--model", tiny, "--json", filepath.Join(t.TempDir(), "none", "report.json")}},
		{1, "is a folder, want a file", []string{"--model", tiny, "--output", t.TempDir()}},
		{1, "no such file", []string{"--model", tiny, "--output", filepath.Join(t.TempDir(), "none", "mined.jsonl")}},
	} {
		o := call(t, "", append(base, x.args...)...)
		lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
		if last := lines[len(lines)-1]; o.code != x.code || !strings.Contains(last, x.want) || strings.Contains(last, "already closed") {
			t.Errorf("%v: exit %d, want %d with %q: %s", x.args, o.code, x.code, x.want, o.stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v wrote a file", x.args)
		}
		if x.want == "no query has negatives" && !strings.Contains(o.stderr, "candidates dropped by max_score") {
			t.Errorf("which limit dropped them is not told: %s", o.stderr)
		}
	}
}

// A file that is read is not replaced.
func TestMineOutputIsNoInput(t *testing.T) {
	data := pairs(t, 20)
	before, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--output", "--json"} {
		args := []string{"mine", "--kind", "bm25", "--train-dataset", data, "--output", filepath.Join(t.TempDir(), "out.jsonl"), flag, data}
		call(t, "", args...).fails(t, exitUsage, flag+" would replace", "which is read")
	}
	if after, err := os.ReadFile(data); err != nil || string(after) != string(before) {
		t.Errorf("the training rows were replaced: %v", err)
	}
}

// Several ranks write the bytes of one, in every strategy; a mistake is told once.
func TestRanksMineAsOne(t *testing.T) {
	data, docs, dir := pairs(t, 300), corpusFile(t, 1500), t.TempDir()
	for name, args := range map[string][]string{
		"top":           {"--model", tiny, "--corpus", docs, "--output-scores", "--relative-margin", "0.01"},
		"random":        {"--model", tiny, "--sampling-strategy", "random", "--range-max", "30", "--int8"},
		"cross-encoder": {"--model", tiny, "--cross-encoder", fixtures + "bert-reranker", "--max-score", "0.9", "--output-scores"},
		"bm25":          {"--kind", "bm25"},
	} {
		var files [2]string
		var stderr [2]string
		for i, n := range []int{1, 3} {
			out := filepath.Join(dir, fmt.Sprint(name, n))
			o := mpirun(t, n, append([]string{"mine", "--train-dataset", data, "--output", out, "--threads", "1"}, args...)...).ok(t)
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			files[i], stderr[i] = string(b), o.stderr
		}
		if files[0] != files[1] || files[0] == "" {
			t.Errorf("%s: three ranks write other rows than one", name)
		}
		if strings.Count(stderr[1], "rows for") != 1 {
			t.Errorf("%s: %s", name, stderr[1])
		}
	}
	bad := write(t, "bad.jsonl", `{"query":"a"}`)
	mpirun(t, 2, "mine", "--model", tiny, "--train-dataset", bad, "--output", filepath.Join(dir, "bad")).fails(t, exitError, `bad.jsonl:1: mining needs rows of`)
	mpirun(t, 2, "mine", "--model", tiny, "--train-dataset", data, "--output", filepath.Join(dir, "none", "x")).fails(t, exitError, "no such file")
}
