package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// retrievalSet is a folder in BEIR's form with so many documents and queries, over the small models' letters.
func retrievalSet(t *testing.T, documents, queries int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "set")
	if err := os.MkdirAll(filepath.Join(dir, "qrels"), 0o755); err != nil {
		t.Fatal(err)
	}
	var documentRows, asked bytes.Buffer
	qrels := "query-id\tcorpus-id\tscore\n"
	rows := json.NewEncoder(&documentRows)
	for i := range documents {
		row := map[string]string{"_id": fmt.Sprintf("d%d", i), "title": fmt.Sprintf("%c", 'a'+i%26), "text": strings.Repeat("the er ", i%5) + fmt.Sprint(7*i%103)}
		if err := rows.Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	for i := range queries {
		fmt.Fprintf(&asked, "{\"_id\": \"q%d\", \"text\": \"the %c of %d\"}\n", i, 'a'+i%26, i)
		qrels += fmt.Sprintf("q%d\td%d\t%d\nq%d\td%d\t0\n", i, i*3%documents, 1+i%2, i, (i*3+1)%documents)
	}
	for name, text := range map[string]string{"corpus.jsonl": documentRows.String(), "queries.jsonl": asked.String(), "qrels/test.tsv": qrels} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// retrieved is what eval --retrieval gives, with the time left out, and the run file.
type retrieved struct {
	report mteb.Report
	run    string
	stderr string
}

func (r retrieved) text(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(r.report)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + r.run
}

// retrieveOn evaluates as a job of n ranks.
func retrieveOn(t *testing.T, n int, args ...string) retrieved {
	t.Helper()
	report, run := filepath.Join(t.TempDir(), "report.json"), filepath.Join(t.TempDir(), "run.trec")
	o := mpirun(t, n, append(append([]string{"eval"}, args...), "--threads", "1", "--json", report, "--save-run", run)...).ok(t)
	r, err := mteb.ReadReport(report)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Results {
		r.Results[i].Seconds = 0
	}
	b, err := os.ReadFile(run)
	if err != nil {
		t.Fatal(err)
	}
	return retrieved{r, string(b), o.stderr}
}

// Every kind of search gives the same report and run file on any number of ranks, and its run file measures the same again.
func TestRetrieval(t *testing.T) {
	set := retrievalSet(t, 60, 30)
	for name, args := range map[string][]string{
		"embedding": {"--model", tiny}, "colbert": {"--model", oneOf["colbert"], "--kind", "colbert"}, "bm25": {"--kind", "bm25"},
		"reranked": {"--kind", "bm25", "--rerank", oneOf["reranker"], "--top-k", "7"}, "reranked by colbert": {"--model", tiny, "--rerank", oneOf["colbert"]},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--retrieval", set}, args...)
			one := retrieveOn(t, 1, args...)
			if many := retrieveOn(t, 2, args...); many.text(t) != one.text(t) {
				t.Errorf("two ranks differ from one: %+v\n%+v", many.report, one.report)
			}
			r := one.report.Results[0]
			if r.Task != "set" || r.Queries != 30 || r.Documents != 60 || len(r.PerQuery) != 30 || len(r.Scores) != 42 || r.NDCG <= 0 || r.NDCG != r.Scores["ndcg_at_10"] || r.Rule != mteb.Rule2 {
				t.Errorf("%+v", r)
			}
			file := write(t, "run.trec", one.run)
			again := retrieveOn(t, 1, "--retrieval", set, "--run", file).report
			if a, b := again.Results[0], r; fmt.Sprint(a) != fmt.Sprint(b) || again.Model != "run.trec" {
				t.Errorf("the run file measures another result:\n%+v\n%+v", a, b)
			}
		})
	}
}

// The candidates of a run file are scored again: only they are left.
func TestRerankARun(t *testing.T) {
	set := retrievalSet(t, 40, 3)
	file := write(t, "first.trec", "q0 Q0 d5 1 3 x\nq0 Q0 d0 2 2 x\nq0 Q0 d7 3 1 x\nq2 Q0 d1 1 9 x\n")
	run := filepath.Join(t.TempDir(), "second.trec")
	dir := t.TempDir()
	args := []string{"eval", "--retrieval", set, "--run", file, "--rerank", tiny, "--top-k", "2", "--save-run", run, "--mteb-dir", dir}
	o := call(t, "", args...).ok(t)
	if !strings.Contains(o.stderr, "set: nothing was found for 1 queries; they count with 0") {
		t.Errorf("%s", o.stderr)
	}
	b, err := os.ReadFile(run)
	if err != nil || strings.Count(string(b), "\n") != 3 || strings.Contains(string(b), "d7") || !strings.Contains(string(b), "q2 Q0 d1 1 ") || !strings.Contains(string(b), " first.trec+tiny@2\n") {
		t.Errorf("%s%v", b, err)
	}
	first, err := os.ReadFile(run)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("q0 Q0 d5 1 3 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "", args...).ok(t) // the result of a run file is never taken for that of another one
	if second, err := os.ReadFile(run); err != nil || strings.Count(string(second), "\n") != 1 || bytes.Equal(first, second) {
		t.Errorf("%s%v", second, err)
	}
	if o := call(t, "", append(args, "--fresh")...).ok(t); strings.Contains(o.stderr, "set was measured before") {
		t.Errorf("--fresh takes a result of before: %s", o.stderr)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "first.trec+tiny@2", "*", "set.json")); len(found) != 1 {
		t.Errorf("result files: %v", found)
	}
}

// Several models and tasks are a table.
func TestRetrievalOfSeveralModels(t *testing.T) {
	a, b := retrievalSet(t, 20, 4), retrievalSet(t, 10, 3)
	args := []string{"eval", "--model", tiny, "--model", oneOf["colbert"], "--retrieval", a, "--retrieval", b}
	o := call(t, "", append(args, "--format", "csv")...).ok(t)
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if len(lines) != 7 || !strings.HasPrefix(lines[0], "model,task,queries,documents,nDCG@10,") || !strings.HasPrefix(lines[1], tiny+",set,4,20,") || !strings.HasPrefix(lines[6], oneOf["colbert"]+",average,") {
		t.Errorf("%s", o.stdout)
	}
	args[4] = "no/where"
	o = call(t, "", args...)
	if o.code != 1 || !strings.Contains(o.stderr, "rag-retrieval: no/where: ") || !strings.Contains(o.stdout, "│ average │") {
		t.Errorf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
}

// compare and gate read results on retrieval tasks.
func TestCompareRetrieval(t *testing.T) {
	set, dir := retrievalSet(t, 30, 12), t.TempDir()
	a, b, base := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.json"), filepath.Join(dir, "base.json")
	call(t, "", "eval", "--retrieval", set, "--kind", "bm25", "--json", a).ok(t)
	call(t, "", "eval", "--retrieval", set, "--model", tiny, "--json", b).ok(t)
	if o := call(t, "", "compare", a, b, "--format", "csv").ok(t); !strings.HasPrefix(o.stdout, "task,model,nDCG@10,difference,95 % interval,MAP,") {
		t.Errorf("%s", o.stdout)
	}
	if o := call(t, "", "compare", a, b, "--format", "html").ok(t); !strings.Contains(o.stdout, "Queries by change of nDCG@10") {
		t.Errorf("%s", o.stdout)
	}
	call(t, "", "gate", "--baseline", base, "--update", a).ok(t)
	if o := call(t, "", "gate", "--baseline", base, a).ok(t); !strings.Contains(o.stdout, "nDCG@10") {
		t.Errorf("%s", o.stdout)
	}
	if o := call(t, "", "gate", "--baseline", base, b, "--max-drop", "0"); o.code != 1 {
		t.Errorf("exit %d: %s", o.code, o.stdout)
	}
}

func TestRetrievalRefuses(t *testing.T) {
	set := retrievalSet(t, 5, 2)
	for _, c := range []struct {
		code int
		args []string
		want string
	}{
		{2, []string{"--run", "x"}, "--run goes with --retrieval"},
		{2, []string{"--retrieval", set, "--kind", "bm25", "--top-k", "5"}, "--top-k goes with --rerank"},
		{2, []string{"--retrieval", set, "--kind", "bm25", "--rerank", tiny, "--top-k", "0"}, "--top-k is 0, want 1 to 1000"},
		{2, []string{"--retrieval", set, "--data", set}, "--data is for reranking tasks"},
		{2, []string{"--retrieval", set, "--scores", "x"}, "give a run file to --run"},
		{2, []string{"--retrieval", set, "--rule", "mteb-1"}, "--rule mteb-1 is for reranking tasks"},
		{2, []string{"--retrieval", set, "--retrieval", set, "--run", "x"}, "--run and --save-run go with one --retrieval"},
		{2, []string{"--retrieval", set}, "--retrieval wants one of --model, --run and --kind bm25"},
		{2, []string{"--retrieval", set, "--model", tiny, "--model", tiny, "--save-run", "x"}, "--save-run goes with one --model"},
		{2, []string{"--retrieval", set, "--model", tiny, "--model", tiny, "--format", "json"}, "--format json goes with one --model"},
		{2, []string{"--retrieval", set, "--model", tiny, "--kind", "bm25"}, "wants one of"},
		{2, []string{"--retrieval", set, "--model", tiny, "--long-docs", "max-window"}, "--long-docs max-window is for reranking"},
		{2, []string{"--retrieval", "nowhere", "--kind", "bm25"}, `no folder nowhere, no data set of the hub, and no retrieval task "nowhere", want one of T2Retrieval`},
		{2, []string{"--retrieval", set, "--model", oneOf["reranker"]}, "is a reranker, which cannot search a corpus: give it to --rerank"},
		{1, []string{"--retrieval", "T2Retrieval", "--kind", "bm25", "--data-dir", set}, "has no data of T2Retrieval: want a folder T2Retrieval"},
		{1, []string{"--retrieval", filepath.Join(set, "qrels"), "--kind", "bm25"}, "no .jsonl, .jsonl.gz or .parquet file"},
		{1, []string{"--retrieval", filepath.Join(set, "corpus.jsonl"), "--kind", "bm25"}, "want a folder with corpus, queries and qrels"},
		{1, []string{"--retrieval", set, "--run", write(t, "run", "q0 Q0 d1 1 nan x")}, `run:1: the score is "nan", want a number`},
	} {
		call(t, "", append([]string{"eval"}, c.args...)...).fails(t, c.code, c.want)
	}
}

// A retrieval task's data come from the hub at the pinned revision. Documents that qrels name and the data lack count as in MTEB.
func TestRetrievalTaskFromTheHub(t *testing.T) {
	known, err := mteb.FindRetrievalTask("DuRetrieval")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), known.Name)
	for name, text := range map[string]string{
		"corpus/dev-00000-of-00001.jsonl":  `{"id":"a","title":"","text":"ab cd"}` + "\n" + `{"id":"b","text":"ef"}`,
		"queries/dev-00000-of-00001.jsonl": `{"id":"q","text":"ab"}`,
		"data/dev-00000-of-00001.jsonl":    `{"query-id":"q","corpus-id":"a","score":1}` + "\n" + `{"query-id":"q","corpus-id":"gone","score":1}`,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hubAt(t, dir, known.Source.ID, known.Source.Revision)
	results := t.TempDir()
	args := []string{"eval", "--kind", "bm25", "--retrieval", "duretrieval", "--mteb-dir", results, "--format", "csv"}
	o := call(t, "", args...).ok(t)
	for _, want := range []string{"1 queries and 2 documents, MTEB's own data have 2000 and 100001", `1 a document that the data lack`, `the document "gone" is not in the corpus`} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("%q is not in %s", want, o.stderr)
		}
	}
	if !strings.Contains(o.stdout, "DuRetrieval,1,2,61.31,50.00,100.00,50.00,50.00,") {
		t.Errorf("%s", o.stdout)
	}
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	o = call(t, "", args...).ok(t)
	if !strings.Contains(o.stderr, "DuRetrieval was measured before") || !strings.Contains(o.stdout, "DuRetrieval,2000,100001,61.31,50.00,100.00,50.00,50.00,") {
		t.Errorf("%s%s", o.stderr, o.stdout)
	}
	o = call(t, "", "eval", "--kind", "bm25", "--retrieval", "DuRetrieval", "--data-dir", filepath.Dir(dir), "--format", "csv").ok(t)
	if !strings.Contains(o.stdout, "DuRetrieval,1,2,61.31,") {
		t.Errorf("%s", o.stdout)
	}
}

// Any data set of the hub in BEIR's form is a retrieval task.
func TestRetrievalSetFromTheHub(t *testing.T) {
	set := retrievalSet(t, 12, 4)
	hubOf(t, set)
	if o := call(t, "", "eval", "--kind", "bm25", "--retrieval", "org/name", "--format", "csv").ok(t); !strings.Contains(o.stdout, "\nname,4,12,") {
		t.Errorf("%s", o.stdout)
	}
	call(t, "", "eval", "--kind", "bm25", "--retrieval", "org/other").fails(t, 1, "org/other: not found on http")
}

// An evaluation that is interrupted or killed while it encodes the corpus goes on, with another number of ranks, to the same bits.
func TestRetrievalGoesOn(t *testing.T) {
	set := retrievalSet(t, 6000, 5)
	args := []string{"--model", encodertest.Wide(t, fixtures+"bert/vocab.txt"), "--kind", "embedding", "--retrieval", set}
	whole := retrieveOn(t, 1, args...).text(t)
	for n, stop := range map[int]os.Signal{3: os.Interrupt, 1: os.Kill} {
		home := t.TempDir()
		t.Setenv("RAG_RETRIEVAL_HOME", home)
		dir := filepath.Join(home, "retrieval")
		vectors := func() int { // in whole chunks
			files, _ := filepath.Glob(filepath.Join(dir, "*", "vectors.xxh64"))
			if len(files) == 0 {
				return 0
			}
			st, err := os.Stat(files[0])
			if err != nil {
				return 0
			}
			return int(st.Size()) / 8 * index.ChunkLen
		}
		if kept := stoppedAfter(t, dir, stop, append([]string{"eval", "--threads", "1"}, args...), vectors); kept == 0 || kept >= 6000 {
			t.Fatalf("%v: %d vectors were kept", stop, kept)
		}
		went := retrieveOn(t, n, args...)
		if !strings.Contains(went.stderr, "set: going on where an earlier call was stopped; --fresh begins again") {
			t.Errorf("%v: %s", stop, went.stderr)
		}
		if went.text(t) != whole {
			t.Errorf("%v: %d ranks do not end as one that was never stopped", stop, n)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("%v: left %v", stop, left)
		}
	}
}

// A job that is killed while it scores again goes on with the scores that it had, to the same bits.
func TestRetrievalRerankingGoesOn(t *testing.T) {
	set := retrievalSet(t, 3000, 300)
	args := []string{"--retrieval", set, "--kind", "bm25", "--rerank", encodertest.Wide(t, fixtures+"bert/vocab.txt"), "--top-k", "20"}
	whole := retrieveOn(t, 1, args...).text(t)
	home := t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	if kept := stopped(t, home, os.Kill, append([]string{"eval", "--threads", "1"}, args...)); kept == 0 || kept >= 300 {
		t.Fatalf("the journal has %d rows", kept)
	}
	went := retrieveOn(t, 3, args...)
	if went.text(t) != whole || !strings.Contains(went.stderr, "set: going on after ") {
		t.Errorf("three ranks do not end as one that was never stopped: %s", went.stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "scores", "*.jsonl")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Two evaluations of the same model and corpus do not disturb each other: the second keeps its vectors apart.
func TestRetrievalTwice(t *testing.T) {
	set, home := retrievalSet(t, 20, 5), t.TempDir()
	t.Setenv("RAG_RETRIEVAL_HOME", home)
	args := []string{"--model", tiny, "--retrieval", set}
	whole := retrieveOn(t, 1, args...).text(t)
	m, err := retriever.Open(t.Context(), tiny, retriever.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	fingerprint, err := m.Fingerprint(version)
	if err != nil {
		t.Fatal(err)
	}
	c, err := corpus.Open(filepath.Join(set, "corpus.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lock, err := filelock.Try(filepath.Join(home, "retrieval", fmt.Sprintf("%.24s-%.24s.lock", fingerprint, c.Hash())))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if o := call(t, "", append([]string{"eval"}, args...)...).ok(t); !strings.Contains(o.stderr, "a stop would lose what is computed: another call for the same has its vectors in the cache") {
		t.Errorf("%s", o.stderr)
	}
	if again := retrieveOn(t, 1, args...).text(t); again != whole {
		t.Error("beside another evaluation the result is another one")
	}
}

// With a real model, every metric is the one that mteb computes with sentence-transformers.
func TestRetrievalEqualsSentenceTransformers(t *testing.T) {
	const model, set = "../../.rag-retrieval/models/all-MiniLM-L6-v2", "../../mteb/testdata/functions"
	if _, err := os.Stat(filepath.Join(model, "config.json")); err != nil {
		t.Skip("the model is not in this checkout: scripts/setup.sh fetches it")
	}
	var want struct{ Scores map[string]float64 }
	readJSON(t, filepath.Join(set, "mteb.json"), &want)
	got := retrieveOn(t, 1, "--retrieval", set, "--model", model).report.Results[0].Scores
	for name, x := range want.Scores {
		if math.Abs(got[name]-x) > 1e-6 {
			t.Errorf("%s is %.6f, by mteb %.6f", name, got[name], x)
		}
	}
}

// Results of pairs of models lie apart, also where both pairs have the same names.
func TestRetrievalResultsOfAnotherModel(t *testing.T) {
	set, results := retrievalSet(t, 20, 3), t.TempDir()
	args := func(reranker string) []string {
		return []string{"eval", "--retrieval", set, "--kind", "bm25", "--rerank", reranker, "--mteb-dir", results}
	}
	other := filepath.Join(t.TempDir(), filepath.Base(tiny))
	if err := os.CopyFS(other, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	call(t, "", args(tiny)...).ok(t)
	if o := call(t, "", args(tiny)...).ok(t); !strings.Contains(o.stderr, "set was measured before") || !strings.Contains(o.stdout, "│ set  │       3 │        20 │") {
		t.Errorf("%s%s", o.stderr, o.stdout)
	}
	call(t, "", args(other)...).fails(t, 1, "has the results of bm25 + "+tiny+", not of bm25 + "+other)
}
