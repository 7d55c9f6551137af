package scoring_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/scoring"
)

// A folder that is replaced while a session is open gives the former model's vectors to the end; bytes that are written
// into the file itself are an error, not the scores of half of either model.
func TestWeightsThatChangeInUse(t *testing.T) {
	dir := folder(t, "F32")
	path := filepath.Join(dir, hf.SafetensorsFile)
	m, err := embedding.Open(dir)
	check(t, err)
	defer m.Close()
	e, err := embedding.NewEncoder(m, scoring.Options{})
	check(t, err)
	defer e.Close()
	encode := func() ([][]float32, error) {
		return e.Encode(context.Background(), []string{"如何重置密码"}, true, 14, nil)
	}
	want, err := encode()
	check(t, err)

	b, err := os.ReadFile(path)
	check(t, err)
	asRead, err := os.Stat(path)
	check(t, err)
	former := path + ".former"
	check(t, os.Rename(path, former))
	check(t, os.WriteFile(path, make([]byte, len(b)), 0o600))
	got, err := encode()
	check(t, err)
	same(t, "replaced", got, want)

	f, err := os.OpenFile(former, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt([]byte{0}, int64(len(b)-1))
	check(t, err)
	check(t, f.Close())
	if _, err := encode(); err == nil || !strings.Contains(err.Error(), "was changed while the model was in use") {
		t.Errorf("written into: %v", err)
	}

	// The former bytes and time do not help: the session may hold zeros in place of pages.
	check(t, os.WriteFile(former, b, 0o600))
	check(t, os.Chtimes(former, asRead.ModTime(), asRead.ModTime()))
	if _, err := encode(); err == nil || !strings.Contains(err.Error(), "was changed while the model was in use") {
		t.Errorf("restored: %v", err)
	}
}
