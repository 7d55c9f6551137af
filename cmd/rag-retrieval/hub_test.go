package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// hubOf serves a folder as the model and as the data set org/name.
func hubOf(t *testing.T, dir string) {
	t.Helper()
	hubAt(t, dir, "org/name", "main")
}

// hubAt serves a folder as a model and a data set with one revision. It returns how often a file was fetched.
func hubAt(t *testing.T, dir, id, revision string) (fetched *sync.Map) {
	t.Helper()
	var siblings []any
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		siblings = append(siblings, map[string]any{"rfilename": name, "size": st.Size()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	describe := func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"sha": "abc", "siblings": siblings})
	}
	for _, r := range slices.Compact([]string{revision, "abc"}) { // a commit is a revision too
		mux.HandleFunc("/api/models/"+id+"/revision/"+r, describe)
		mux.HandleFunc("/api/datasets/"+id+"/revision/"+r, describe)
	}
	fetched = &sync.Map{}
	for _, prefix := range []string{"/" + id + "/resolve/abc/", "/datasets/" + id + "/resolve/abc/"} {
		files := http.StripPrefix(prefix, http.FileServer(http.Dir(dir)))
		mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
			n, _ := fetched.LoadOrStore(r.URL.Path, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			files.ServeHTTP(w, r)
		})
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	return fetched
}

// A task's data come from the hub at the pinned revision; a result that is there is not measured again, not even with
// the hub gone; and --data-dir takes the same data from a folder.
func TestEvalTaskFromTheHub(t *testing.T) {
	known, err := mteb.FindTask("T2Reranking")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), known.Name)
	row := `{"query":"ab cd","positive":["ab cd"],"negative":["ef","gh"]}` + "\n"
	for name, text := range map[string]string{"data/dev-00000-of-00001.jsonl": row + row, "data/test-00000-of-00001.jsonl": "{", "README.md": "x"} {
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hubAt(t, dir, known.V1.ID, known.V1.Revision)
	results := t.TempDir()
	args := []string{"eval", "--kind", "bm25", "--task", "t2reranking", "--mteb-dir", results, "--format", "csv"}
	o := call(t, "", args...).ok(t)
	if !strings.Contains(o.stdout, "T2Reranking,mteb-1,2,100.00,100.00,") || !strings.Contains(o.stderr, "2 queries, MTEB's own data have 5908") {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	o = call(t, "", args...).ok(t)
	if !strings.Contains(o.stderr, "T2Reranking was measured before") || !strings.Contains(o.stdout, "100.00,100.00") {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	o = call(t, "", "eval", "--kind", "bm25", "--task", "T2Reranking", "--data-dir", filepath.Dir(dir), "--format", "csv").ok(t)
	if !strings.Contains(o.stdout, "T2Reranking,mteb-1,2,100.00,100.00,") {
		t.Errorf("%s%s", o.stdout, o.stderr)
	}
	call(t, "", "eval", "--kind", "bm25", "--task", "T2Reranking", "--data-dir", filepath.Dir(dir), "--split", "train").
		fails(t, 1, `the split of rows is "train", want one of dev, test`)
}

// Scores that were saved measure the same again; those of another program name no task.
func TestRecordedScores(t *testing.T) {
	test := write(t, "set.jsonl", `{"query":"ab","positive":["cd"],"negative":["ab","gh"]}`+"\n"+`{"query":"ab","positive":["ab"],"negative":["ij"]}`)
	saved := filepath.Join(t.TempDir(), "scores.jsonl")
	first := call(t, "", "eval", "--kind", "bm25", "--data", test, "--save-scores", saved, "--format", "csv").ok(t)
	again := call(t, "", "eval", "--scores", saved, "--data", test, "--format", "csv").ok(t)
	cut := func(s string) string { return s[:strings.LastIndex(s, ",")] } // the seconds
	if cut(first.stdout) != cut(again.stdout) {
		t.Errorf("%s then %s", first.stdout, again.stdout)
	}
	other := write(t, "other.jsonl", `{"query_id":"0","scores":[3,2,1]}`+"\n"+`{"query_id":"1","scores":[1,0]}`)
	if o := call(t, "", "eval", "--scores", other, "--data", test, "--format", "csv").ok(t); !strings.Contains(o.stdout, ",2,100.00,100.00,") {
		t.Errorf("%s", o.stdout)
	}
	for text, want := range map[string]string{
		`{"query_id":"0","scores":[3,2]}`:   "has 2 scores for 3 candidates",
		`{"query_id":"0","scores":[3,2,1]}`: `no scores of task "set", query "1"`,
		`{"scores":[3,2,1]}`:                `bad.jsonl:1: "query_id" or "scores" is missing`,
		`{"query_id":"0","scores":[1]}` + "\n" + `{"query_id":"0","scores":[1]}`: "bad.jsonl:2: a second row",
	} {
		call(t, "", "eval", "--scores", write(t, "bad.jsonl", text), "--data", test).fails(t, 1, want)
	}
}

// A model and its data come from the hub, are trained, and the saved folder says which model it was.
func TestTrainFromTheHub(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(fixtures+"xlmr")); err != nil {
		t.Fatal(err)
	}
	rows := strings.Repeat(`{"query":"\u5982\u4f55","pos":"\u5bc6\u7801"}`+"\n"+`{"query":"\u82f9\u679c","pos":"\u6c34\u679c"}`+"\n", 4)
	if err := os.WriteFile(filepath.Join(dir, "rows.jsonl"), []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	hubOf(t, dir)
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"train", "embedding", "--model", "org/name", "--train-dataset", "org/name/rows.jsonl", "--output-dir", out,
		"--query-max-len", "10", "--passage-max-len", "10", "--batch-size", "4", "--max-steps", "2"}
	o := call(t, "", append(args, "--dry-run")...).ok(t)
	if strings.Count(o.stdout, "would be fetched from the hub: org/name") != 2 {
		t.Errorf("dry run: %s", o.stdout)
	}
	call(t, "", args...).ok(t)
	var saved struct {
		BaseModel string `json:"base_model"`
	}
	readJSON(t, filepath.Join(out, "model", "rag_retrieval.json"), &saved)
	if saved.BaseModel != "org/name" {
		t.Errorf("base model %q", saved.BaseModel)
	}
	call(t, `{"query":"a","documents":["b"]}`, "rerank", "--model", "org/name").ok(t)
	call(t, "", "rerank", "--model", "org/other").fails(t, 1, "org/other: not found on http")
}

// A dry run fetches no base model for an adapter in a folder. It says that a training would, and plans once the base is in the cache.
func TestDryRunOfAnAdapterFromTheHub(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	t.Setenv(runtime.HomeVariable, home)
	fetched := hubAt(t, tiny, "org/name", "main")
	args := func(model, out string) []string {
		return []string{"train", "embedding", "--model", model, "--train-dataset", pairs(t, 8), "--output-dir", filepath.Join(root, out), "--lora-rank", "2",
			"--max-steps", "1", "--batch-size", "4", "--query-max-len", "8", "--passage-max-len", "8"}
	}
	call(t, "", args("org/name", "first")...).ok(t)
	adapter := filepath.Join(root, "first", "model")
	dry := append(args(adapter, "second"), "--dry-run")
	if o := call(t, "", dry...).ok(t); strings.Contains(o.stdout, "would be fetched") || !strings.Contains(o.stdout, "8 examples, ") {
		t.Errorf("with the base in the cache: %s", o.stdout)
	}
	t.Setenv(runtime.HomeVariable, t.TempDir())
	fetched.Clear()
	if o := call(t, "", dry...).ok(t); o.stdout != "would be fetched from the hub: org/name, the base model of "+adapter+"\nthe settings are valid; nothing was written\n" {
		t.Errorf("without the base: %s", o.stdout)
	}
	fetched.Range(func(path, _ any) bool {
		t.Errorf("%s was fetched", path)
		return true
	})
}
