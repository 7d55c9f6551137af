package main

import (
	"os"
	"path/filepath"
	"testing"
)

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
