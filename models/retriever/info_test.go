package retriever_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rag-retrieval-go/internal/stamp"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
)

// A model's scores depend on its own files: those of a folder and its modules, or an ONNX file with its weights and tokenizer.
// What else lies there, such as data and results in a working folder, does not count.
func TestFiles(t *testing.T) {
	for _, kind := range modelcard.Kinds {
		model := saved(t, kind)
		for _, name := range []string{"results.json", "data.jsonl", ".git/config", "data/train.jsonl", "data/config.json"} {
			path := filepath.Join(model, name)
			check(t, os.MkdirAll(filepath.Dir(path), 0o755))
			check(t, os.WriteFile(path, nil, 0o644))
		}
		refs := []string{model}
		if kind != modelcard.ColBERT {
			refs = append(refs, filepath.Join(model, "model.onnx"))
		}
		for _, ref := range refs {
			files, err := open(t, ref, retriever.Options{}).Files()
			check(t, err)
			var names []string
			for _, f := range files {
				name, err := filepath.Rel(model, f)
				check(t, err)
				names = append(names, name)
			}
			want := []string{"config.json", "tokenizer.json", "model.safetensors", "rag_retrieval.json"}
			if kind != modelcard.Reranker {
				want = append(want, "modules.json", map[modelcard.Kind]string{modelcard.Embedding: "1_Pooling/config.json", modelcard.ColBERT: "1_Dense/model.safetensors"}[kind])
			}
			if ref != model {
				want = append(want, "model.onnx")
			}
			for _, name := range want {
				if !slices.Contains(names, name) {
					t.Errorf("%s: %s is not among %v", ref, name, names)
				}
			}
			for _, name := range names {
				if strings.HasPrefix(name, "data") || strings.HasPrefix(name, "results") || strings.HasPrefix(name, ".") {
					t.Errorf("%s: %s is not the model's", ref, name)
				}
			}
		}
	}
}

// Fingerprints name what is stored: they stay what they were in releases before, and change with every option that changes
// scores and with the model's files.
func TestFingerprint(t *testing.T) {
	ref, text := saved(t, modelcard.Embedding), "x "
	of := func(o retriever.Options) string {
		f, err := open(t, ref, o).Fingerprint("1.0")
		check(t, err)
		return f
	}
	first := of(retriever.Options{})
	h := sha256.New()
	fmt.Fprintf(h, "1.0 %s embedding false\nquery-max-len 0\npassage-max-len 0\nmax-len 0\nlong-docs truncate\npadding-competes false\nprovider cpu\n\n\n", ref)
	files, err := hf.Files(ref)
	check(t, err)
	for _, path := range files {
		now, err := stamp.OfPath(path)
		check(t, err)
		fmt.Fprintln(h, path, now)
	}
	if want := hex.EncodeToString(h.Sum(nil)); first != want {
		t.Errorf("the fingerprint is %s, was %s: what is stored would not be found", first, want)
	}
	known := map[string]bool{first: true}
	for _, o := range []retriever.Options{
		{QueryMaxLen: 9}, {PassageMaxLen: 9}, {MaxLen: 9}, {LongDocs: retriever.MaxWindow}, {PaddingCompetes: true}, {Int8: true},
		{QueryPrompt: &text}, {PassagePrompt: &text}, {BatchTokens: 64}, {Provider: "auto"},
	} {
		f := of(o)
		if known[f] {
			t.Errorf("%+v has the fingerprint of other options", o)
		}
		known[f] = true
	}
	if of(retriever.Options{Kind: modelcard.Embedding}) != first {
		t.Error("the same model has two fingerprints")
	}
	config := filepath.Join(ref, "config.json")
	b, err := os.ReadFile(config)
	check(t, err)
	time.Sleep(20 * time.Millisecond) // a tick of the file system's clock
	check(t, os.WriteFile(config, b, 0o644))
	if of(retriever.Options{}) == first {
		t.Error("a file was written, and the fingerprint stayed")
	}
}
