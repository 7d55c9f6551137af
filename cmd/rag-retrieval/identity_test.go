package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/onnx"
)

// What a model's scores depend on are its own files: those of a folder and its modules, or an ONNX file with its weights
// and tokenizer. What else lies there, such as data and results in a working folder, is not looked at.
func TestModelFiles(t *testing.T) {
	for _, kind := range []string{"embedding", "colbert", "reranker"} {
		model, _ := trained(t, kind)
		for _, name := range []string{"results.json", "data.jsonl", ".git/config", "data/train.jsonl", "data/config.json"} {
			path := filepath.Join(model, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		exported := filepath.Join(model, "model.onnx")
		for _, ref := range []string{model, exported} {
			files, err := modelFiles(ref, model)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				name, err := filepath.Rel(model, f)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
			want := []string{"config.json", "tokenizer.json", "model.safetensors", "rag_retrieval.json"}
			if kind != "reranker" {
				want = append(want, "modules.json", map[string]string{"embedding": "1_Pooling/config.json", "colbert": "1_Dense/model.safetensors"}[kind])
			}
			if ref == exported {
				want = append(want, "model.onnx")
			}
			for _, name := range want {
				if !slices.Contains(names, name) {
					t.Errorf("%s: %s is not among %v", ref, name, names)
				}
			}
			for _, name := range names {
				if strings.HasPrefix(name, "data") || strings.HasPrefix(name, "results") || strings.HasPrefix(name, ".") {
					t.Errorf("%s: %s is none of the model", ref, name)
				}
			}
		}
	}
	if _, err := onnx.ExternalFiles(fixtures + "bert/config.json"); err == nil || !strings.Contains(err.Error(), "not an ONNX file") {
		t.Errorf("%v", err)
	}
}

// An evaluation of ./model.onnx goes on where it was whatever has been written beside it meanwhile.
func TestJournalBesideOtherFiles(t *testing.T) {
	model, rows := trained(t, "reranker")
	home := t.TempDir()
	env, dir := []string{"RAG_RETRIEVAL_HOME=" + home}, filepath.Join(home, "scores")
	exported := filepath.Join(model, "model.onnx")
	first := journalOf(t, env, exported, rows, dir)
	if err := os.WriteFile(filepath.Join(model, "result.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := journalOf(t, env, exported, rows, dir); again != first {
		t.Errorf("the journal %s is %s after a file was written beside the model", first, again)
	}
}
