package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/mteb"
)

// trained makes a small trained model of a kind and gives its folder and a file of test rows, one of them with a passage
// of many windows.
func trained(t *testing.T, kind string) (model, rows string) {
	t.Helper()
	dir := t.TempDir()
	base := map[string]string{"embedding": "bert", "colbert": "bert", "reranker": "bert-reranker"}[kind]
	args := []string{"train", kind, "--model", fixtures + base, "--train-dataset",
		write(t, "train.jsonl", strings.Repeat(`{"query":"密码","pos":"苹果 水果","neg":"设置"}`+"\n"+`{"query":"水果","pos":"设置页面","neg":"密码"}`+"\n", 4)),
		"--batch-size", "2", "--max-steps", "2", "--output-dir", dir + "/out"}
	if kind == "reranker" {
		args = append(args, "--max-len", "20", "--loss-type", "listwise_ce", "--train-group-size", "2")
	} else {
		args = append(args, "--query-max-len", "12", "--passage-max-len", "14")
	}
	call(t, "", args...).ok(t)
	text := ""
	for i := range 6 {
		text += fmt.Sprintf(`{"query":["如何%[1]d"],"positive":["密码 %[1]d","%[2]s"],"negative":["水果","苹果 设置 %[1]d","页面"]}`+"\n", i, strings.Repeat("密码 苹果 水果 在设置页面 ", 9-i))
	}
	return dir + "/out/model", write(t, "rows.jsonl", text)
}

// scoresOf runs eval and gives its scores.
func scoresOf(t *testing.T, env []string, args ...string) [][]float32 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scores.jsonl")
	callEnv(t, env, "", append(append([]string{"eval"}, args...), "--save-scores", path)...).ok(t)
	rows, err := jsonl.ReadLog[mteb.ScoreRow](path)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	for _, r := range rows {
		out = append(out, r.Scores)
	}
	return out
}

func largestDifference(a, b [][]float32) float64 {
	worst := math.Abs(float64(len(a) - len(b)))
	for i := range min(len(a), len(b)) {
		for j := range a[i] {
			worst = max(worst, math.Abs(float64(a[i][j]-b[i][j])))
		}
	}
	return worst
}

// The ways to score, of every kind of model: model.onnx gives the folder's scores; the windows of a long passage never
// less than its beginning, and more somewhere; several models one table.
func TestWaysToScore(t *testing.T) {
	for _, kind := range []string{"embedding", "colbert", "reranker"} {
		t.Run(kind, func(t *testing.T) {
			model, rows := trained(t, kind)
			plain := scoresOf(t, nil, "--model", model, "--data", rows, "--passage-max-len", "14", "--max-len", "20")
			windows := scoresOf(t, nil, "--model", model, "--data", rows, "--passage-max-len", "14", "--max-len", "20", "--long-docs", "max-window")
			raised := false
			for i := range plain {
				for j := range plain[i] {
					d := float64(windows[i][j] - plain[i][j])
					if d < -1e-5 || j != 1 && d > 1e-5 {
						t.Errorf("query %d, candidate %d: %g in windows, %g cut", i, j, windows[i][j], plain[i][j])
					}
					raised = raised || d > 1e-5
				}
			}
			if !raised && kind != "reranker" { // whose windows have at least 101 tokens, more than this model's
				t.Error("no window scored more than a beginning")
			}
			if kind != "colbert" {
				file := scoresOf(t, nil, "--model", model+"/model.onnx", "--data", rows, "--passage-max-len", "14", "--max-len", "20")
				if d := largestDifference(file, plain); d > 1e-5 {
					t.Errorf("model.onnx scores differ by %g", d)
				}
			}
			table := call(t, "", "eval", "--model", model, "--model", fixtures+"bert-reranker", "--data", rows, "--format", "csv").ok(t)
			if lines := strings.Split(strings.TrimSpace(table.stdout), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "model,size (GB),rows,average") {
				t.Errorf("a table of two models:\n%s", table.stdout)
			}
		})
	}
}

// An evaluation whose journal is there goes on, to the same scores; --fresh begins again.
func TestEvalGoesOn(t *testing.T) {
	model, rows := trained(t, "embedding")
	home := t.TempDir()
	env := []string{"RAG_RETRIEVAL_HOME=" + home}
	want := scoresOf(t, env, "--model", model, "--data", rows)
	dir := filepath.Join(home, "scores")
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("a finished evaluation left %v", left)
	}
	name := journalOf(t, env, model, rows, dir)
	kept := [][]float32{{9, 9, 9, 9, 9}, {8, 8, 8, 8, 8}}
	if err := jsonl.Write(filepath.Join(dir, name), kept); err != nil {
		t.Fatal(err)
	}
	got := scoresOf(t, env, "--model", model, "--data", rows)
	if largestDifference(got[:2], kept) != 0 || largestDifference(got[2:], want[2:]) != 0 {
		t.Errorf("went on to %v, want %v behind the journal's", got, want[2:])
	}
	if err := jsonl.Write(filepath.Join(dir, name), kept); err != nil {
		t.Fatal(err)
	}
	if got := scoresOf(t, env, "--model", model, "--data", rows, "--fresh"); largestDifference(got, want) != 0 {
		t.Errorf("--fresh gave %v, want %v", got, want)
	}
}

// Data with several splits want one of them: the error says which flag names it.
func TestEvalNamesSplit(t *testing.T) {
	rows, dir := `{"query": "the a", "positive": ["a er"], "negative": ["b er"]}`+"\n", t.TempDir()
	for _, split := range []string{"dev", "test"} {
		if err := os.WriteFile(filepath.Join(dir, split+".jsonl"), []byte(rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eval := []string{"eval", "--kind", "bm25", "--data", dir}
	call(t, "", eval...).fails(t, 1, dir+": rows of several splits: want one of dev, test; name it with --split")
	call(t, "", append(eval, "--split", "dve")...).fails(t, 1, `the split of rows is "dve", want one of dev, test; name it with --split`)
	call(t, "", append(eval, "--split", "dev")...).ok(t)
}

// journalOf finds the name of an evaluation's journal: it stays where the results cannot be written.
func journalOf(t *testing.T, env []string, model, rows, dir string) string {
	t.Helper()
	bad := filepath.Join(t.TempDir(), strings.Repeat("x", 300)) // longer than a name may be
	o := callEnv(t, env, "", "eval", "--model", model, "--data", rows, "--save-scores", bad)
	if o.code == 0 {
		t.Fatal("wrote a file with too long a name")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("journals: %v %v", left, err)
	}
	return left[0].Name()
}

// int8 scores are near to fp32's, the same in every batch, and the loss of MAP is printed and kept.
func TestInt8(t *testing.T) {
	dir := t.TempDir()
	rows := filepath.Join(dir, "rows.jsonl")
	var text strings.Builder
	for i := range 12 {
		fmt.Fprintf(&text, `{"query":["如何%d"],"positive":["密码 %[1]d"],"negative":["水果 %[1]d","苹果 设置 %[1]d","页面"]}`+"\n", i)
	}
	if err := os.WriteFile(rows, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	model := encodertest.Wide(t, fixtures+"bert/vocab.txt")
	exact := scoresOf(t, nil, "--model", model, "--kind", "embedding", "--data", rows)
	fast := scoresOf(t, nil, "--model", model, "--kind", "embedding", "--data", rows, "--int8")
	if d := largestDifference(exact, fast); d == 0 || d > 0.05 {
		t.Errorf("int8 scores differ by %g from fp32's, want a little", d)
	}
	one := write(t, "one.jsonl", strings.SplitAfter(text.String(), "\n")[7])
	if alone := scoresOf(t, nil, "--model", model, "--kind", "embedding", "--data", one, "--int8"); largestDifference(alone, fast[7:8]) != 0 {
		t.Errorf("alone %v, among others %v", alone, fast[7])
	}
	report := filepath.Join(dir, "report.json")
	o := call(t, "", "eval", "--model", model, "--kind", "embedding", "--data", rows, "--data", one, "--int8", "--int8-check", "5", "--json", report).ok(t)
	if !strings.Contains(o.stderr, "MAP of 5 queries is") {
		t.Errorf("stderr: %s", o.stderr)
	}
	r, err := mteb.ReadReport(report)
	// The second task is scored after the fp32 model of the first one's check.
	if err != nil || len(r.Results) != 2 || r.Results[1].Int8 == nil || r.Results[0].Int8 == nil || r.Results[0].Int8.Queries != 5 {
		b, _ := json.Marshal(r)
		t.Errorf("report %s, %v", b, err)
	}
	call(t, "", "eval", "--model", model+"/x.onnx", "--data", rows, "--int8").fails(t, 1, "without int8")
}

// Where all tasks were measured before, the files that the flags name are written all the same.
func TestEvalMeasuredBefore(t *testing.T) {
	queries, set := write(t, "q.jsonl", `{"query": "the a", "positive": ["aa"], "negative": ["bb", "cc"]}`+"\n"), retrievalSet(t, 20, 3)
	for name, args := range map[string][]string{"reranking": {"--data", queries}, "retrieval": {"--retrieval", set}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "result.json")
			args := append([]string{"eval", "--model", tiny, "--mteb-dir", filepath.Join(dir, "mteb"), "--json", path}, args...)
			var found [2]mteb.Report
			for i := range found {
				o := call(t, "", args...).ok(t)
				r, err := mteb.ReadReport(path)
				if err != nil {
					t.Fatal(err, o.stderr)
				}
				if again := strings.Contains(o.stderr, "was measured before: "); again != (i == 1) {
					t.Errorf("call %d: %s", i, o.stderr)
				}
				found[i] = r
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			a, b := found[0].Results[0], found[1].Results[0]
			if a.Data == "" || a.Data != b.Data || a.Queries != b.Queries || a.Documents != b.Documents || math.Abs(a.MAP-b.MAP) > 1e-6 || found[1].Precision != "fp32" {
				t.Errorf("measured %+v, from the folder %+v", a, b)
			}
			mpirun(t, 2, append(args, "--threads", "1")...).ok(t)
			if _, err := mteb.ReadReport(path); err != nil {
				t.Error(err)
			}
		})
	}
	args := []string{"--model", tiny, "--data", queries, "--mteb-dir", t.TempDir()}
	if a, b := scoresOf(t, nil, args...), scoresOf(t, nil, args...); len(b) != 1 || largestDifference(a, b) != 0 {
		t.Errorf("--save-scores wrote %v, then %v", a, b)
	}
}
