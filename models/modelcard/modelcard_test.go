package modelcard

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// What a folder can be used as, by its files.
func TestDetectable(t *testing.T) {
	const st = `[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Pooling"}]`
	for name, c := range map[string]struct {
		files map[string]string
		want  []Kind
	}{
		"a bare encoder":        {map[string]string{"config.json": `{"architectures":["BertModel"]}`}, []Kind{Embedding}},
		"a classifier":          {map[string]string{"config.json": `{"architectures":["XLMRobertaForSequenceClassification"]}`}, []Kind{Reranker}},
		"RAG-Retrieval's":       {map[string]string{"config.json": `{}`, "colbert_linear.pt": "x"}, []Kind{ColBERT}},
		"bge-m3":                {map[string]string{"config.json": `{}`, "colbert_linear.pt": "x", "modules.json": st}, []Kind{Embedding, ColBERT}},
		"sentence-transformers": {map[string]string{"config.json": `{}`, "modules.json": st}, []Kind{Embedding}},
		"a MultiVectorEncoder":  {map[string]string{"modules.json": `[{"type":"sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"}]`}, []Kind{ColBERT}},
		"PyLate":                {map[string]string{"modules.json": `[{"type":"pylate.models.Dense.Dense"}]`}, []Kind{ColBERT}},
		"saved here":            {map[string]string{"rag_retrieval.json": `{"kind":"reranker"}`, "colbert_linear.pt": "x", "modules.json": st}, []Kind{Reranker}},
	} {
		dir := t.TempDir()
		for file, content := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Detectable(dir)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
		for _, k := range Kinds {
			err := Check(dir, k)
			if fits := reflect.DeepEqual(got[:1], []Kind{k}) || len(got) > 1 && got[1] == k; fits != (err == nil) {
				t.Errorf("%s as %s: %v", name, k, err)
			}
		}
	}
	if _, err := Detectable(t.TempDir()); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("an empty folder: %v", err)
	}
}

// A projection that cannot be looked at is an error: taken for absent, the folder would be an embedding model's.
func TestUnreadableProjection(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "colbert_linear.pt")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if kinds, err := Detectable(dir); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v, %v", kinds, err)
	}
}
