// Package encodertest looks into the batches of tests, and makes them model folders.
package encodertest

import (
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/ortrain"
)

// IDs are the token ids of each text of a packed batch, in its order.
func IDs(b *ortrain.Batch) (out [][]int64) {
	words, at := b.Ints["input_ids"].Data, 0
	for _, n := range b.Lengths {
		row := make([]int64, n)
		for i := range row {
			row[i] = b.Ints["vocabulary"].Data[words[at+i]]
		}
		out, at = append(out, row), at+n
	}
	return out
}

// Folder is a copy of a model folder with other content in some files; empty content removes a file.
func Folder(t *testing.T, from string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.Remove(path)
		if os.IsNotExist(err) {
			err = nil
		}
		if err == nil && content != "" {
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = os.WriteFile(path, []byte(content), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
