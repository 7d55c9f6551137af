package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// corpusOf makes n documents, with words that some share, in two languages.
func corpusOf(t *testing.T, n int) *corpus.Corpus {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"_id": "d%d", "title": "title %d", "text": "word%d of %d", "lang": %q}`+"\n", i, i, i%7, i, []string{"zh", "en"}[i%2])
	}
	path := filepath.Join(t.TempDir(), "docs.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := corpus.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func writeFolder(t *testing.T, dir string, c *corpus.Corpus, e retriever.Embedder, use Use) error {
	t.Helper()
	return WriteFolder(context.Background(), Encode{Dir: dir, Embedder: e}, c, use, func(string, int, int) {})
}

func openFolder(t *testing.T, dir string) *Folder {
	t.Helper()
	x, err := OpenFolder(dir, runtime.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func numbersOf(hits []Hit) (out []int) {
	for _, h := range hits {
		out = append(out, h.Document)
	}
	return out
}

func TestFolder(t *testing.T) {
	ctx, dir, e := context.Background(), t.TempDir(), &hashEmbedder{}
	c := corpusOf(t, 2500)
	use := Use{Model: "hash", Content: "1", QueryMaxLen: 64, PassageMaxLen: 512}
	if err := writeFolder(t, dir, c, e, use); err != nil {
		t.Fatal(err)
	}
	x := openFolder(t, dir)
	if !reflect.DeepEqual(x.Use, use) || x.Len != c.Len() || x.Dimension != 3 {
		t.Errorf("the manifest is %+v", x.FolderManifest)
	}
	var passages []string
	for i := range c.Len() {
		p, _ := c.Passage(i)
		passages = append(passages, p)
	}
	query, err := e.Encode(ctx, prompt.Texts(true, passages[1234]), retriever.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Filter{nil, {{"lang", "zh"}}, {{"lang", "en"}}, {{"lang", "fr"}}} {
		var kept []int
		for i := range c.Len() {
			if d, _ := c.Document(i); f.Matches(d.Metadata) {
				kept = append(kept, i)
			}
		}
		hits, err := x.Search(ctx, [][]float32{query[0].Values}, 10, f)
		if err != nil {
			t.Fatal(err)
		}
		want := product(x.vectors, query[0].Values, kept)
		if f != nil && kept == nil {
			want = nil
		}
		if got := numbersOf(hits[0]); !slices.Equal(got, numbersOf(want[:min(10, len(want))])) {
			t.Errorf("filter %v: the nearest are %v, want %v", f, got, numbersOf(want[:min(10, len(want))]))
		}
		words, err := x.BM25(ctx, []string{"word3 title", ""}, 10, f)
		if err != nil || len(words[1]) != 0 {
			t.Fatal(words, err)
		}
		scores := bm25.NewIndex(passages, bm25.Terms, nil).Scores("word3 title")
		for i := range scores {
			if f != nil && !slices.Contains(kept, i) {
				scores[i] = 0
			}
		}
		if got, want := numbersOf(words[0]), bm25.Best(scores, 10); !slices.Equal(got, want) {
			t.Errorf("filter %v: BM25 finds %v, want %v", f, got, want)
		}
	}
	if fields, err := x.Fields(ctx); err != nil || !slices.Equal(fields, []string{"lang"}) {
		t.Errorf("the fields are %v: %v", fields, err)
	}
	documents, err := x.Documents(ctx, []int{2499, 0, 7})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{2499, 0, 7} {
		if want, _ := c.Document(n); !reflect.DeepEqual(documents[i], want) {
			t.Errorf("document %d is %+v, want %+v", n, documents[i], want)
		}
	}
	if _, err := x.Documents(ctx, []int{2500}); err == nil {
		t.Error("a document that is not there was read")
	}
}

// An interrupted index is refused, and a second call finishes it. One that is whole stays.
func TestFolderGoesOn(t *testing.T) {
	dir, c := t.TempDir(), corpusOf(t, 1500)
	if _, err := OpenFolder(dir, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "no whole index") {
		t.Error(err)
	}
	if err := writeFolder(t, dir, c, &hashEmbedder{limit: 1200}, Use{}); !errors.Is(err, errLimit) {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "no whole index") {
		t.Error(err)
	}
	e := &hashEmbedder{}
	if err := writeFolder(t, dir, c, e, Use{}); err != nil || e.encoded != 1500-ChunkLen {
		t.Fatalf("%v; %d texts were encoded", err, e.encoded)
	}
	openFolder(t, dir)
	before, err := os.Stat(filepath.Join(dir, documentsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFolder(t, dir, c, e, Use{Model: "moved"}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(dir, documentsFile)); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Error("a whole index was written again")
	}
	if x := openFolder(t, dir); x.Use.Model != "moved" {
		t.Errorf("the model is %q", x.Use.Model)
	}
}

// An index of other documents, or by another model, is replaced only when that is asked for; until it is whole it is refused.
func TestFolderIsReplaced(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	if err := writeFolder(t, dir, corpusOf(t, 50), &hashEmbedder{}, Use{Content: "old"}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		documents int
		use       Use
	}{"documents": {60, Use{Content: "old"}}, "model": {50, Use{Content: "new"}}} {
		if err := writeFolder(t, dir, corpusOf(t, change.documents), &hashEmbedder{}, change.use); !errors.Is(err, ErrOtherVectors) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	x := Encode{Dir: dir, Embedder: &hashEmbedder{}, Fresh: true, Source: corpusOf(t, 50)}
	x.Fingerprint, _ = Use{Content: "new"}.Fingerprint()
	v, err := x.Vectors(ctx) // as if the rest had been interrupted
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
	if _, err := OpenFolder(dir, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "newer than its documents") {
		t.Errorf("vectors of another model: %v", err)
	}
	if err := writeFolder(t, dir, corpusOf(t, 50), &hashEmbedder{}, Use{Content: "new"}); err != nil {
		t.Fatal(err)
	}
	openFolder(t, dir)
	for _, file := range []string{startsFile, VectorsFile, "bm25-00000", documentsFile} {
		if err := os.Truncate(filepath.Join(dir, file), 8); err != nil {
			t.Fatal(err)
		}
		if file == documentsFile {
			continue // is noticed when a document is read
		}
		if _, err := OpenFolder(dir, runtime.Options{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s is cut short: %v", file, err)
		}
	}
}

// An index that is damaged is made again, whatever its folder is called, and what a killed process has left is removed.
func TestFolderIsMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "index[1]*")
	if err := writeFolder(t, dir, corpusOf(t, 50), &hashEmbedder{}, Use{}); err != nil {
		t.Fatal(err)
	}
	c := corpusOf(t, 40)
	for _, file := range []string{"", startsFile, VectorsFile, "bm25-00000", documentsFile} {
		left := []string{"bm25-00001", ".bm25-00000.tmp-1", "." + documentsFile + ".tmp-2"}
		for _, name := range left {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if file != "" {
			if err := os.Truncate(filepath.Join(dir, file), 8); err != nil {
				t.Fatal(err)
			}
		}
		if err := WriteFolder(context.Background(), Encode{Dir: dir, Embedder: &hashEmbedder{}, Fresh: true}, c, Use{}, func(string, int, int) {}); err != nil {
			t.Fatal(err)
		}
		x := openFolder(t, dir)
		if d, err := x.Documents(context.Background(), []int{39}); err != nil || d[0].ID != "d39" || x.Len != 40 {
			t.Errorf("%s was damaged: %v, %v", file, d, err)
		}
		for _, name := range left {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is left", name)
			}
		}
	}
}

// A folder's own files are not overwritten.
func TestFolderLeavesOthersFiles(t *testing.T) {
	for _, name := range []string{documentsFile, VectorsFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := writeFolder(t, dir, corpusOf(t, 5), &hashEmbedder{}, Use{})
		if b, _ := os.ReadFile(path); err == nil || !strings.Contains(err.Error(), path) || string(b) != "mine" {
			t.Errorf("%s: %v, and it has %q", name, err, b)
		}
	}
}

// A folder is not written by two processes: neither while its vectors are made nor afterwards.
func TestFolderIsLocked(t *testing.T) {
	dir, c := t.TempDir(), corpusOf(t, 5)
	x := Encode{Dir: dir, Embedder: &hashEmbedder{}}
	err := WriteFolder(context.Background(), x, c, Use{}, func(stage string, _, _ int) {
		if stage == StageBM25 {
			var held *filelock.Held
			if err := writeFolder(t, dir, c, &hashEmbedder{}, Use{}); !errors.As(err, &held) {
				t.Errorf("while the documents are written: %v", err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err == nil {
		t.Error("the lock is left")
	}
	manifest := FolderManifest{Version: folderVersion, Source: "another"}
	if err := x.writeRest(context.Background(), c, manifest, func(string, int, int) {}); !errors.Is(err, ErrOtherVectors) {
		t.Errorf("vectors that another process has replaced: %v", err)
	}
}

func TestFilterMatches(t *testing.T) {
	for _, x := range []struct {
		metadata, condition string
		want                bool
	}{
		{`{"year": 2020}`, `year=2020`, true}, {`{"year": "2020"}`, `year=2020`, true}, {`{"year": "2020"}`, `year="2020"`, true},
		{`{"year": 2020}`, `year="2020"`, false}, {`{"n": 1.50}`, `n=1.5`, true}, {`{"n": 12345678901234567890}`, `n=12345678901234567890`, true},
		{`{"n": 12345678901234567891}`, `n=12345678901234567890`, false},
		{`{"n": 123456789012345678901234567890123}`, `n=123456789012345678901234567890124`, false}, {`{"ok": true}`, `ok=true`, true}, {`{"ok": "true"}`, `ok=true`, true},
		{`{"a": null}`, `a=null`, false}, {`{"a": "null"}`, `a=null`, true}, {`{"a": ["x"]}`, `a=x`, false}, {`{"eq": "a=b"}`, `eq=a=b`, true},
		{`{}`, `a=`, false}, {`{"a": ""}`, `a=`, true}, {``, `a=x`, false}, {`{"名": "中"}`, `名=中`, true},
	} {
		f, err := ParseFilter(x.condition)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Matches(json.RawMessage(x.metadata)); got != x.want {
			t.Errorf("%s matches %s: %v", x.metadata, x.condition, got)
		}
	}
	both, _ := ParseFilter("a=1", "b=2")
	if both.Matches(json.RawMessage(`{"a": 1}`)) || !both.Matches(json.RawMessage(`{"a": 1, "b": 2}`)) {
		t.Error("not all conditions are met")
	}
	for _, wrong := range []string{"lang", "=zh", "", "a=\x00"} {
		if _, err := ParseFilter(wrong); err == nil {
			t.Errorf("%q is a filter", wrong)
		}
	}
}

func TestFuse(t *testing.T) {
	got := Fuse(3, []Hit{{1, 9}, {2, 8}, {3, 7}}, []Hit{{3, 0.9}, {4, 0.8}})
	want := []Hit{{3, 1./63 + 1./61}, {1, 1. / 61}, {2, 1. / 62}} // documents 2 and 4 tie: the lower number
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Fuse(5); len(got) != 0 {
		t.Errorf("no lists give %v", got)
	}
}
