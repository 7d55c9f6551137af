package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hubOf serves a folder as the model and as the data set org/name.
func hubOf(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	describe := func(w http.ResponseWriter, _ *http.Request) {
		var siblings []any
		for _, f := range files {
			if st, err := f.Info(); err == nil && !f.IsDir() {
				siblings = append(siblings, map[string]any{"rfilename": f.Name(), "size": st.Size()})
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"sha": "abc", "siblings": siblings})
	}
	mux.HandleFunc("/api/models/org/name/revision/main", describe)
	mux.HandleFunc("/api/datasets/org/name/revision/main", describe)
	for _, prefix := range []string{"/org/name/resolve/abc/", "/datasets/org/name/resolve/abc/"} {
		mux.Handle(prefix, http.StripPrefix(prefix, http.FileServer(http.Dir(dir))))
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
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
