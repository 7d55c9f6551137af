package mteb

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func asItIs(path string) (string, error) { return path, nil }

// put writes files into a new folder.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "task")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	corpusRows = `{"_id":"d1","title":"A","text":"one"}
{"_id":"d2","title":"","text":"two"}
{"_id":"d3","text":"three"}`
	queries = `{"_id":"q1","text":"first"}
{"_id":"q2","text":"second"}
{"_id":"q3","text":"of another split"}`
	qrels = `{"query-id":"q1","corpus-id":"d2","score":1}
{"query-id":"q1","corpus-id":"d1","score":0}
{"query-id":"q2","corpus-id":"d1","score":1}`
	ranked = `{"query-id":"q1","corpus-ids":["d1","d2","d3"]}
{"query-id":"q2","corpus-ids":["d1"]}`
)

// Data in the 2.x format are read in the hub's layout and with one file for each part.
func TestReadSecondShape(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"folders": {
			"corpus/dev-00000-of-00001.jsonl": corpusRows, "queries/dev-00000-of-00001.jsonl": queries,
			"data/dev-00000-of-00001.jsonl": qrels, "top_ranked/dev-00000-of-00001.jsonl": ranked,
		},
		"files": {"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels/test.jsonl": qrels, "qrels/train.jsonl": "", "top_ranked.jsonl": ranked},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := Read(put(t, files), "test", asItIs)
			if err != nil {
				t.Fatal(err)
			}
			if len(task.Samples) != 1 || task.Dropped != 1 || task.Name != "task" {
				t.Fatalf("%+v", task)
			}
			s := task.Samples[0]
			if s.ID != "q1" || strings.Join(s.Candidates(), "|") != "two|A one|three" || strings.Join(s.DocumentIDs, " ") != "d2 d1 d3" {
				t.Errorf("%+v", s)
			}
			// All tied: the ids in descending order put d2 second.
			if m := Rule2.Measure([]float32{1, 1, 1}, 1, s.DocumentIDs); m.RR != 0.5 || math.Abs(m.AP-0.5) > 1e-12 {
				t.Errorf("ties: %+v", m)
			}
		})
	}
}

func TestReadFolderRefuses(t *testing.T) {
	row := `{"query":"a","positive":["b"],"negative":["c"]}`
	for name, c := range map[string]struct {
		files       map[string]string
		split, want string
	}{
		"nothing":       {map[string]string{"README.md": "x"}, "", "no .jsonl, .jsonl.gz or .parquet file"},
		"wrong split":   {map[string]string{"dev.jsonl": row, "test.jsonl": row}, "validation", `the split of rows is "validation", want one of dev, test`},
		"no split":      {map[string]string{"dev.jsonl": row, "test.jsonl": row}, "", `rows of several splits: want one of dev, test`},
		"split folders": {map[string]string{"default/train/0000.jsonl": row, "default/test/0000.jsonl": row}, "", `rows of several splits: want one of test, train`},
		"no ranking":    {map[string]string{"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels.jsonl": qrels}, "", "no top_ranked"},
		"unknown id":    {map[string]string{"corpus.jsonl": corpusRows, "queries.jsonl": queries, "qrels.jsonl": qrels, "top_ranked.jsonl": `{"query-id":"q1","corpus-ids":["d2","d9"]}`}, "", `the candidate "d9", which is not in the corpus`},
		"empty passage": {map[string]string{"corpus.jsonl": `{"_id":"d1","text":" "}`, "queries.jsonl": queries, "qrels.jsonl": qrels, "top_ranked.jsonl": ranked}, "", `corpus.jsonl:1: "_id" or "text" is missing or empty`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(put(t, c.files), c.split, asItIs); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	for _, files := range []map[string]string{
		{"dev.jsonl": row, "test.jsonl": row + "\n" + row},
		{"dev/0000.jsonl": row, "test/0000.jsonl": row, "data/test/0001.jsonl": row},
	} {
		dir := put(t, files)
		for split, want := range map[string]int{"dev": 1, "test": 2} {
			task, err := Read(dir, split, asItIs)
			if err != nil || len(task.Samples) != want {
				t.Errorf("%v, %s: %d samples, %v", files, split, len(task.Samples), err)
			}
		}
	}
}

// Every task in the list has all fields, and FindTask finds it by its aliases.
func TestTasks(t *testing.T) {
	if len(Tasks) != 8 {
		t.Fatalf("%d tasks", len(Tasks))
	}
	for _, k := range Tasks {
		for _, s := range []Source{k.V1, k.V2} {
			if !strings.Contains(s.ID, "/") || len(s.Revision) != 40 {
				t.Errorf("%s: source %+v", k.Name, s)
			}
		}
		if k.Split == "" || k.Prompt == "" || k.Licence == "" || len(k.Languages) != 1 {
			t.Errorf("%+v", k)
		}
	}
	if k, err := FindTask("cmedqav1"); err != nil || k.Name != "CMedQAv1-reranking" || k.Source(Rule1) == k.Source(Rule2) {
		t.Errorf("%+v, %v", k, err)
	}
}

// A written result is found again, but only by the same rule and for the same data.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for _, rule := range Rules {
		f := ResultFolder{Dir: dir, Model: "org/name-" + string(rule), Rule: rule}
		r := Result{Task: "T", Rule: rule, MAP: 0.123456, MRR: 0.5, NDCG: 0.25, Recall: 0.75, Seconds: 3}
		p := DataSource{Revision: "abc", Split: "dev", Languages: []string{"eng-Latn"}}
		if err := f.Write(r, p); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "org__name-"+string(rule), "no_revision_available", "T.json")); err != nil {
			t.Error(err)
		}
		got, ok, err := f.Finished("T", p)
		if rule == Rule1 {
			r.NDCG = 0 // 1.x has none
		}
		if err != nil || !ok || got.MAP != r.MAP || got.MRR != r.MRR || got.NDCG != r.NDCG || got.Recall != r.Recall {
			t.Errorf("%s: %+v, %v, %v", rule, got, ok, err)
		}
		for name, other := range map[string]DataSource{"data": {Revision: "other", Split: "dev"}, "split": {Revision: "abc", Split: "test"}} {
			if _, ok, err := f.Finished("T", other); ok || err != nil {
				t.Errorf("%s: another %s: %v, %v", rule, name, ok, err)
			}
		}
		if _, ok, err := f.Finished("U", p); ok || err != nil {
			t.Errorf("%s: another task: %v, %v", rule, ok, err)
		}
	}
	one := ResultFolder{Dir: dir, Model: "out-1/x/model", Rule: Rule2}
	if err := one.Write(Result{Task: "T", Rule: Rule2}, DataSource{Revision: "abc", Split: "dev"}); err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]bool{"out-1/x/model": true, "./out-1//x/model/": true, "out-2/x/model": false} {
		other := ResultFolder{Dir: dir, Model: model, Rule: Rule2}
		if _, ok, err := other.Finished("T", DataSource{Revision: "abc", Split: "dev"}); ok != want || (err == nil) != want {
			t.Errorf("%s: %v, %v", model, ok, err)
		}
	}
	f := ResultFolder{Dir: dir, Model: "org/name-mteb-1", Rule: Rule2}
	if _, ok, err := f.Finished("T", DataSource{Revision: "abc", Split: "dev"}); ok || err != nil {
		t.Errorf("of the other rule: %v, %v", ok, err)
	}
}

// A retrieval result is found again with all its metrics. One of a reranking task is not taken for it.
func TestRetrievalFolder(t *testing.T) {
	dir, p := t.TempDir(), DataSource{Revision: "abc", Split: "dev"}
	f := ResultFolder{Dir: dir, Model: "org/name", Rule: Rule2, Retrieval: true}
	var m RetrievalMetrics
	for _, x := range retrievalMetrics {
		for i := range Cutoffs {
			x.of(&m.RetrievalMeasures)[i] = float64(i) / 8
		}
	}
	r := Result{Task: "T", Rule: Rule2, Seconds: 3}
	r.setScores(m.ByName())
	if err := f.Write(r, p); err != nil {
		t.Fatal(err)
	}
	got, ok, err := f.Finished("T", p)
	if err != nil || !ok || !reflect.DeepEqual(got, r) || !got.Retrieval() || got.Recall100() != 0.625 || got.NDCG != 0.375 {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "org__name", "no_revision_available", "T.json"))
	if err != nil || !strings.Contains(string(b), `"main_score": 0.375`) || !strings.Contains(string(b), `"mteb_version": "2.20.0"`) {
		t.Errorf("%s%v", b, err)
	}
	other := ResultFolder{Dir: dir, Model: "org/other", Rule: Rule2}
	if err := other.Write(Result{Task: "T", Rule: Rule2, MAP: 0.5}, p); err != nil {
		t.Fatal(err)
	}
	other.Retrieval = true
	if _, ok, err := other.Finished("T", p); ok || err != nil {
		t.Errorf("a reranking result: %v, %v", ok, err)
	}
}
