package mteb

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"rag-retrieval-go/internal/unpack"
)

// retrievalCase is a case of testdata/retrieval.json, which scripts/fixtures/make_retrieval.py wrote.
type retrievalCase struct {
	Name     string
	Ignore   bool `json:"ignore_identical_ids"`
	Qrels    map[string]map[string]int
	Results  map[string]map[string]float32
	Means    map[string]float64
	PerQuery map[string]map[string]float64 `json:"per_query"`
}

// task writes the case as a folder in BEIR's form, and reads it.
func (c retrievalCase) task(t *testing.T) RetrievalTask {
	t.Helper()
	var documents, queries, judged strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&documents, "{\"_id\": \"d%d\", \"text\": \"x\"}\n", i)
	}
	judged.WriteString("query-id\tcorpus-id\tscore\n")
	for _, q := range c.ids() {
		fmt.Fprintf(&queries, "{\"_id\": %q, \"text\": \"x\"}\n", q)
		for d, score := range c.Qrels[q] {
			fmt.Fprintf(&judged, "%s\t%s\t%d\n", q, d, score)
		}
	}
	dir := put(t, map[string]string{"corpus.jsonl": documents.String(), "queries.jsonl": queries.String(), "qrels/test.tsv": judged.String()})
	task, err := ReadRetrieval(dir, RetrievalOptions{AllowUnknown: true}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { task.Close() })
	task.IgnoreIdenticalIDs = c.Ignore
	return task
}

// ids lists the queries in the order in which mteb's means were summed.
func (c retrievalCase) ids() (out []string) {
	for q := range c.Qrels {
		out = append(out, q)
	}
	sort.Slice(out, func(i, j int) bool {
		return len(out[i]) < len(out[j]) || len(out[i]) == len(out[j]) && out[i] < out[j]
	})
	return out
}

func (c retrievalCase) run(t *testing.T, task RetrievalTask) Run {
	t.Helper()
	var run Run
	for _, q := range task.Queries {
		var hits []Hit
		for id, score := range c.Results[q.ID] {
			n, ok := task.Corpus.Number(id)
			if !ok {
				t.Fatalf("no document %s", id)
			}
			hits = append(hits, Hit{n, score})
		}
		run = append(run, hits)
	}
	return run
}

func compareMetrics(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	for name, x := range got {
		if math.Abs(x-want[name]) > 1e-9 {
			t.Errorf("%s: %s is %.9f, want %.9f", what, name, x, want[name])
		}
	}
}

// The metrics of made-up runs equal those of mteb 2.20 and pytrec_eval, and so they do after the way through a run file.
func TestRetrievalEqualsMTEB(t *testing.T) {
	b, err := os.ReadFile("testdata/retrieval.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []retrievalCase
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			task := c.task(t)
			run := c.run(t, task)
			m, err := EvaluateRetrieval(task, run)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Means) != 6*len(Cutoffs) {
				t.Errorf("%d means in the fixture", len(c.Means))
			}
			compareMetrics(t, "mean", m.ByName(), c.Means)
			for i, q := range task.Queries {
				if want, ok := c.PerQuery[q.ID]; ok {
					compareMetrics(t, q.ID, m.PerQuery[i].ByName(), want)
				}
			}
			path := filepath.Join(t.TempDir(), "run.trec")
			if err := WriteRun(path, task, run, "test"); err != nil {
				t.Fatal(err)
			}
			again, err := ReadRun(path, task)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := EvaluateRetrieval(task, again); err != nil || !reflect.DeepEqual(m, n) {
				t.Errorf("after the way through a file: %+v, %v", n.RetrievalMeasures, err)
			}
		})
	}
}

// What mteb found in Go functions with sentence-transformers and a real model measures as mteb says. The files were made by
// scripts/fixtures/make_retrieval_set.py and check_retrieval.py.
func TestRealRetrievalEqualsMTEB(t *testing.T) {
	task, err := ReadRetrieval("testdata/functions", RetrievalOptions{}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	defer task.Close()
	run, err := ReadRun("testdata/functions/mteb.trec", task)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/functions/mteb.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Scores map[string]float64 }
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	m, err := EvaluateRetrieval(task, run)
	if err != nil || len(want.Scores) != 6*len(Cutoffs) {
		t.Fatalf("%d scores, %v", len(want.Scores), err)
	}
	compareMetrics(t, "mean", m.ByName(), want.Scores)
}

// tiny is a folder of three documents and queries.
func tiny() map[string]string {
	return map[string]string{"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels.jsonl": qrels}
}

func readTiny(t *testing.T) RetrievalTask {
	t.Helper()
	task, err := ReadRetrieval(put(t, tiny()), RetrievalOptions{}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { task.Close() })
	return task
}

// A score in a run file is read back as the same float32, whatever it is.
func TestRunKeepsScores(t *testing.T) {
	task := readTiny(t)
	want := Run{{{0, math.MaxFloat32}, {1, 0.1}, {2, -math.SmallestNonzeroFloat32}}, {{2, 1.0 / 3}, {0, float32(math.Copysign(0, -1))}}}
	path := filepath.Join(t.TempDir(), "run")
	if err := WriteRun(path, task, want, "test"); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRun(path, task)
	if err != nil || !reflect.DeepEqual(got, want) || math.Signbit(float64(got[1][1].Score)) == false {
		t.Errorf("%v, %v", got, err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(b), "q1 Q0 d1 1 3.4028235e+38 test\nq1 Q0 d2 2 0.1 test\n") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestRunFileRefuses(t *testing.T) {
	task := readTiny(t)
	good := "q1 Q0 d1 1 0.5 x\nq3\tQ0\td1  1 0.5 x\n" // q3 has no qrels: it is passed over
	for text, want := range map[string]string{
		"q1 Q0 d1 1 NaN x":               `:3: the score is "NaN", want a number`,
		"q1 Q0 d1 1 high x":              `:3: the score is "high", want a number`,
		"q1 Q0 d1 1 1e99 x":              `:3: the score is "1e99", want a number`,
		"q1 Q0 d2 0.5":                   `:3: 4 columns, want 6`,
		"q1 Q0 d1 1 0.25 x":              `:3: a second line of the query "q1" and the document "d1"`,
		"q2 Q0 d1 1 1 x\nq1 Q0 d1 2 1 x": `:4: a second line of the query "q1" and the document "d1"`,
		"q9 Q0 d1 1 0.25 x":              `:3: the query "q9" is not among the queries`,
		"q2 Q0 d9 1 0.25 x":              `:3: the document "d9" is not in the corpus`,
		"q2 Q0 d1 1 0.25 x y z":          `:3: 8 columns, want 6`,
	} {
		path := filepath.Join(put(t, map[string]string{"run.txt": good + text}), "run.txt")
		if _, err := ReadRun(path, task); err == nil || !strings.Contains(err.Error(), "run.txt"+want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := ReadRun(filepath.Join(put(t, map[string]string{"run.txt": " \n"}), "run.txt"), task); err == nil {
		t.Error("an empty run file was read")
	}
	nan := Run{{{0, float32(math.NaN())}}, nil}
	if err := WriteRun(filepath.Join(t.TempDir(), "run"), task, nan, "x"); err == nil {
		t.Error("a NaN was written")
	}
	if _, err := EvaluateRetrieval(task, nan); err == nil || !strings.Contains(err.Error(), `the query "q1": the score of the document "d1" is not a number`) {
		t.Errorf("NaN: %v", err)
	}
}

// Only ASCII's spaces part columns, as in trec_eval: ids may have others.
func TestRunFileOfWideSpaces(t *testing.T) {
	files := tiny()
	files["corpus.jsonl"] += "\n" + `{"_id":"d\u3000\u00a04","text":"four"}`
	task, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	defer task.Close()
	path, want := filepath.Join(t.TempDir(), "run"), Run{{{3, 1}}, nil}
	if err := WriteRun(path, task, want, "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadRun(path, task); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// An id with a space cannot be in a run file, and no file is left behind.
func TestRunFileOfSpacedIDs(t *testing.T) {
	files := tiny()
	files["corpus.jsonl"] += "\n" + `{"_id":"d 4","text":"four"}`
	task, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	defer task.Close()
	path := filepath.Join(t.TempDir(), "run")
	if err := WriteRun(path, task, Run{{{3, 1}}, nil}, "x"); err == nil || !strings.Contains(err.Error(), `the document "d 4" cannot be in a run file`) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a run file was left")
	}
}

// The same data are read from BEIR's and MTEB's layouts, plain and packed, with ids that are texts or numbers.
func TestReadRetrieval(t *testing.T) {
	numbered := strings.NewReplacer(`"_id":"d`, `"_id":"`).Replace
	cases := map[string]struct {
		files map[string]string
		split string
	}{
		"beir": {map[string]string{
			"corpus.jsonl": corpusRows, "queries.jsonl": queries,
			"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td1\t0\nq2\td1\t1\n", "qrels/train.tsv": "query-id\tcorpus-id\tscore\nq3\td2\t1\n",
		}, ""},
		"one split of another name": {map[string]string{"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels/dev.jsonl": qrels}, ""},
		"named split": {map[string]string{
			"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels/test.jsonl": "{", "qrels/dev.jsonl": qrels,
		}, "dev"},
		"mteb's configurations": {map[string]string{
			"corpus/dev-00000-of-00001.jsonl": corpusRows, "queries/dev-00000-of-00001.jsonl": queries, "data/dev-00000-of-00001.jsonl": qrels, "README.md": "x",
		}, ""},
		"numbers": {map[string]string{
			"corpus.jsonl": numbered(corpusRows), "queries.jsonl": queries,
			"qrels.jsonl": `{"query-id":"q1","corpus-id":2,"score":1}` + "\n" + `{"query-id":"q1","corpus-id":1,"score":0.0}` + "\n" + `{"query-id":"q2","corpus-id":"1","score":1}`,
		}, ""},
		"gzip": {map[string]string{
			"corpus.jsonl.gz": zipped(t, corpusRows), "queries.jsonl.gz": zipped(t, queries), "qrels/test.tsv.gz": zipped(t, "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td1\t0\nq2\td1\t1\n"),
		}, ""},
		"parquet": {map[string]string{"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels/test-00000-of-00001.parquet": qrelsParquet(t)}, ""},
	}
	cache := t.TempDir()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			task, err := ReadRetrieval(put(t, c.files), RetrievalOptions{Split: c.split}, func(path string) (string, error) {
				return unpack.File(t.Context(), path, cache, nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer task.Close()
			want := []map[int]int{{1: 1, 0: 0}, {0: 1}}
			if len(task.Queries) != 2 || task.Corpus.Len() != 3 || task.Name != "task" {
				t.Fatalf("%+v", task)
			}
			for i, q := range task.Queries {
				if q.ID != fmt.Sprintf("q%d", i+1) || !reflect.DeepEqual(q.Relevance, want[i]) || q.Absent != nil {
					t.Errorf("%+v, want %v", q, want[i])
				}
			}
			if p, err := task.Corpus.Passage(0); p != "A one" || err != nil {
				t.Errorf("%q, %v", p, err)
			}
		})
	}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func qrelsParquet(t *testing.T) string {
	t.Helper()
	type row struct {
		Query    string  `parquet:"query-id"`
		Document string  `parquet:"corpus-id"`
		Score    float64 `parquet:"score"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []row{{"q1", "d2", 1}, {"q1", "d1", 0}, {"q2", "d1", 1}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadRetrievalRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no corpus":         {"corpus.jsonl", "", "no corpus: want files or folders named corpus, queries and qrels"},
		"no queries":        {"queries.jsonl", "", "no queries: want"},
		"no qrels":          {"qrels.jsonl", "", "no qrels: want"},
		"empty qrels":       {"qrels.jsonl", "\n", "qrels.jsonl: the file has no rows"},
		"header only":       {"qrels.jsonl", "query-id\tcorpus-id\tscore\n", "qrels.jsonl:1: not JSON"},
		"no id":             {"corpus.jsonl", corpusRows + "\n" + `{"text":"x"}`, `corpus.jsonl:4: "_id" (or "id") is missing or empty`},
		"no text":           {"corpus.jsonl", corpusRows + "\n" + `{"_id":"d4","title":" "}`, `corpus.jsonl:4: "text" of the document "d4" is missing or empty`},
		"document twice":    {"corpus.jsonl", corpusRows + "\n" + `{"_id":"d1","text":"x"}`, `corpus.jsonl:4: the id "d1" is that of`},
		"query twice":       {"queries.jsonl", queries + "\n" + `{"_id":"q1","text":"x"}`, `queries.jsonl:4: the id "q1" is that of`},
		"query without id":  {"queries.jsonl", queries + "\n" + `{"text":"x"}`, `queries.jsonl:4: "_id" is missing or empty`},
		"query sans text":   {"queries.jsonl", `{"_id":"q1","text":" "}` + "\n" + `{"_id":"q2","text":"x"}`, `queries.jsonl:1: "text" of the query "q1" is missing or empty`},
		"unknown query":     {"qrels.jsonl", qrels + "\n" + `{"query-id":"q9","corpus-id":"d1","score":1}`, `qrels.jsonl:4: the query "q9" is not among the queries`},
		"unknown document":  {"qrels.jsonl", qrels + "\n" + `{"query-id":"q1","corpus-id":"d9","score":1}`, `qrels.jsonl:4: the document "d9" is not in the corpus`},
		"nothing judged":    {"qrels.jsonl", `{"query-id":"q9","corpus-id":"d9","score":1}`, `qrels.jsonl:1: the query "q9" is not among the queries`},
		"fraction":          {"qrels.jsonl", `{"query-id":"q1","corpus-id":"d1","score":0.5}`, `qrels.jsonl:1: "score" is 0.5, want a whole number`},
		"no score":          {"qrels.jsonl", `{"query-id":"q1","corpus-id":"d1"}`, `qrels.jsonl:1: "score" is missing`},
		"another score":     {"qrels.jsonl", qrels + "\n" + `{"query-id":"q1","corpus-id":"d1","score":1}`, `qrels.jsonl:4: the query "q1" and the document "d1" have the score 1, and 0 in a row before`},
		"qrels without ids": {"qrels.jsonl", `{"query":"q1","corpus":"d1","score":1}`, `qrels.jsonl:1: "query-id" or "corpus-id" is missing or empty`},
		"an id is a list":   {"qrels.jsonl", `{"query-id":["q1"],"corpus-id":"d1","score":1}`, `qrels.jsonl:1: an id is ["q1"], want a text or a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			files := tiny()
			if files[c.file] = c.text; c.text == "" {
				delete(files, c.file)
			}
			if _, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	for text, want := range map[string]string{
		"q1\td1\n":                              "test.tsv:1: 2 tab-separated columns, want query-id, corpus-id and score",
		"query\tcorpus\tscore\nq1\td1\t1\n":     `test.tsv:1: the score is "score", want a whole number (the header is`,
		"query-id\tcorpus-id\tscore\n":          "qrels name none of the queries",
		"query-id\tcorpus-id\tscore\nq1\t\t1\n": `test.tsv:2: "query-id" or "corpus-id" is missing or empty`,
	} {
		files := tiny()
		delete(files, "qrels.jsonl")
		files["qrels/test.tsv"] = text
		if _, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	files := tiny()
	delete(files, "qrels.jsonl")
	files["qrels/dev.jsonl"], files["qrels/train.jsonl"] = qrels, qrels
	if _, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs); err == nil || !strings.Contains(err.Error(), `the split of qrels is "test", want one of dev, train`) {
		t.Errorf("split: %v", err)
	}
}

// Rows of qrels that name what published data lack are counted: MTEB ignores such queries, and documents count as not found.
func TestUnknownIDsOfPublishedData(t *testing.T) {
	files := tiny()
	files["qrels.jsonl"] += "\n" + `{"query-id":"q9","corpus-id":"d1","score":1}` + "\n" + `{"query-id":"q1","corpus-id":"d9","score":1}`
	task, err := ReadRetrieval(put(t, files), RetrievalOptions{AllowUnknown: true}, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	defer task.Close()
	if u := task.Unknown; u.Queries != 1 || u.Documents != 1 || !strings.HasSuffix(u.First, `qrels.jsonl:4: the query "q9" is not among the queries`) {
		t.Errorf("%+v", u)
	}
	m, err := EvaluateRetrieval(task, Run{{{1, 1}}, {{0, 1}}})
	if err != nil || m.PerQuery[0].Recall.At(10) != 0.5 || m.PerQuery[1].Recall.At(10) != 1 || len(m.PerQuery) != 2 {
		t.Errorf("%+v, %v", m.PerQuery, err)
	}
}

// The hash changes with what a result depends on.
func TestRetrievalHash(t *testing.T) {
	hashes := []string{readTiny(t).Hash()}
	if readTiny(t).Hash() != hashes[0] {
		t.Error("the same data have two hashes")
	}
	for file, with := range map[string][2]string{"corpus.jsonl": {"two", "2"}, "queries.jsonl": {"first", "1st"}, "qrels.jsonl": {`"score":1`, `"score":2`}} {
		files := tiny()
		files[file] = strings.Replace(files[file], with[0], with[1], 1)
		task, err := ReadRetrieval(put(t, files), RetrievalOptions{}, asItIs)
		if err != nil {
			t.Fatal(err)
		}
		defer task.Close()
		if slices.Contains(hashes, task.Hash()) {
			t.Errorf("another %s has the same hash", file)
		}
		hashes = append(hashes, task.Hash())
	}
}

// Every retrieval task in the list has all fields.
func TestRetrievalTasks(t *testing.T) {
	if len(RetrievalTasks) != 8 {
		t.Fatalf("%d tasks", len(RetrievalTasks))
	}
	for _, k := range RetrievalTasks {
		if !strings.Contains(k.Source.ID, "/") || len(k.Source.Revision) != 40 || k.Split == "" || k.Prompt == "" || k.Licence == "" ||
			len(k.Languages) != 1 || k.Queries < 900 || k.Documents < 100_000 || k.Relevant < k.Queries {
			t.Errorf("%+v", k)
		}
	}
	if k, err := FindRetrievalTask("t2retrieval"); err != nil || k.Name != "T2Retrieval" || !k.IgnoreIdenticalIDs {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := FindRetrievalTask("T2Reranking"); err == nil || !strings.Contains(err.Error(), "want one of T2Retrieval, MMarcoRetrieval") {
		t.Errorf("%v", err)
	}
}
