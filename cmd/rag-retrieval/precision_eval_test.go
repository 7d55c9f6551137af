package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
)

// nearTo fails where numbers of the same names are all equal, or differ by more than most: bfloat16 changes them, and only a little.
func nearTo(t *testing.T, got, want map[string]float64, most float64) {
	t.Helper()
	worst, common := 0.0, 0
	for name, x := range got {
		if y, has := want[name]; has {
			worst, common = max(worst, math.Abs(x-y)), common+1
		}
	}
	if common == 0 || worst == 0 || worst > most {
		t.Errorf("%d numbers of bf16 and %d of fp32, %d in common, differ by %g, want a difference of at most %g", len(got), len(want), common, worst, most)
	}
}

// runScores are the scores of a run file by query and document.
func runScores(t *testing.T, run string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(run) {
		f := strings.Fields(line)
		score, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		out[f[0]+" "+f[2]] = score
	}
	return out
}

// Retrieval sets are searched and reranked in bf16: scores close to those of fp32, the same on any number of ranks, and a report that says so.
func TestRetrievalInBF16(t *testing.T) {
	t.Setenv(kernels.Variable, string(kernels.Portable))
	set := retrievalSet(t, 40, 10)
	for name, args := range map[string][]string{
		"embedding": {"--model", tiny}, "colbert": {"--model", oneOf["colbert"], "--kind", "colbert"}, "reranked": {"--kind", "bm25", "--rerank", oneOf["reranker"], "--top-k", "7"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--retrieval", set}, args...)
			exact := retrieveOn(t, 1, args...)
			args = append(args, "--mixed-precision", "bf16")
			got := retrieveOn(t, 1, args...)
			nearTo(t, runScores(t, got.run), runScores(t, exact.run), 0.05)
			if got.report.Precision != "bf16-portable" || exact.report.Precision != "fp32" || !strings.Contains(got.stderr, ": "+bf16Line+"bf16 by the CPU's unit portable\n") {
				t.Errorf("precisions %q and %q; stderr: %s", got.report.Precision, exact.report.Precision, got.stderr)
			}
			if many := retrieveOn(t, 2, args...); many.text(t) != got.text(t) {
				t.Errorf("two ranks differ from one: %+v\n%+v", many.report, got.report)
			}
		})
	}
}

// A suite is measured in bf16: every model says so, the values are close to those of fp32, and the folder of results is that of bf16.
func TestSuiteInBF16(t *testing.T) {
	data, results := filepath.Dir(write(t, "T2Reranking.jsonl", strings.Repeat(`{"query": "the a", "positive": ["aa the er"], "negative": ["bb", "cc the"]}`+"\n", 3))), t.TempDir()
	suite := write(t, "suite.yaml", `title: two models
source: nowhere
tasks: [T2Reranking]
models:
  - {name: one, model: `+tiny+`, kind: embedding}
  - {name: two, model: `+oneOf["reranker"]+`, kind: reranker}
`)
	args := []string{"eval", "--suite", suite, "--data-dir", data, "--format", "csv"}
	exact := call(t, "", args...).ok(t)
	bf16 := append(args, "--mixed-precision", "bf16", "--mteb-dir", results)
	o := callEnv(t, portable, "", bf16...).ok(t)
	for _, model := range []string{tiny, oneOf["reranker"]} {
		if strings.Count(o.stderr, model+": "+bf16Line+"bf16 by the CPU's unit portable\n") != 1 {
			t.Errorf("stderr: %s", o.stderr)
		}
	}
	if lines := strings.Count(o.stdout, "\n"); lines != 3 || strings.Count(exact.stdout, "\n") != lines || strings.Contains(o.stdout, ",-") {
		t.Errorf("tables:\n%s%s", o.stdout, exact.stdout)
	}
	metas, err := filepath.Glob(filepath.Join(results, "*", "*", "model_meta.json"))
	if err != nil || len(metas) != 2 {
		t.Fatal(metas, err)
	}
	for _, path := range metas {
		var meta struct{ Source string }
		if err := json.Unmarshal([]byte(readText(t, path)), &meta); err != nil || !strings.HasSuffix(meta.Source, " in bf16-portable") {
			t.Errorf("%s: %q %v", path, meta.Source, err)
		}
	}
	if o := callEnv(t, portable, "", bf16...).ok(t); strings.Count(o.stderr, "T2Reranking was measured before") != 2 {
		t.Errorf("stderr: %s", o.stderr)
	}
	if o := call(t, "", append(args, "--mteb-dir", results)...); o.code != 1 || strings.Count(o.stderr, " in bf16-portable, not of ") != 2 {
		t.Errorf("in fp32: exit %d: %s", o.code, o.stderr)
	}
}

// Scores of reranking data in bf16 are close to those of fp32, for every kind of model.
func TestScoresInBF16(t *testing.T) {
	rows := write(t, "rows.jsonl", `{"query": "the a", "positive": ["aa the er"], "negative": ["bb", "cc the"]}`+"\n"+`{"query": "er", "positive": ["er the a b c"], "negative": ["d"]}`+"\n")
	for kind, model := range map[string]string{"embedding": tiny, "colbert": oneOf["colbert"], "reranker": oneOf["reranker"]} {
		named := func(scores [][]float32) map[string]float64 {
			out := map[string]float64{}
			for i, row := range scores {
				for j, x := range row {
					out[strconv.Itoa(10*i+j)] = float64(x)
				}
			}
			return out
		}
		args := []string{"--model", model, "--kind", kind, "--data", rows}
		nearTo(t, named(scoresOf(t, portable, append(args, "--mixed-precision", "bf16")...)), named(scoresOf(t, nil, args...)), 0.05)
	}
}
