package bm25

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// randomDocs makes documents of words whose frequencies fall like those of a language. Some have no word.
func randomDocs(n int) []string {
	longest := 30
	if n > 1000 {
		longest = 4
	}
	rng := rand.New(rand.NewPCG(1, 2))
	docs := make([]string, n)
	for i := range docs {
		var words []string
		for range rng.IntN(longest) {
			words = append(words, fmt.Sprint("w", int(100*rng.ExpFloat64())))
		}
		docs[i] = strings.Join(words, " ")
	}
	return docs
}

func store(t *testing.T, docs []string) string {
	t.Helper()
	dir := t.TempDir()
	w := NewWriter(dir, Terms)
	for _, d := range docs {
		if err := w.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Scores from disk are those from memory, to the bit, over one segment and over several.
func TestStoredScores(t *testing.T) {
	for _, n := range []int{1, 300, segmentLen, segmentLen + 1} {
		docs := randomDocs(n)
		x, err := OpenStored(store(t, docs), Terms)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if x.Len() != n {
			t.Errorf("%d documents, want %d", x.Len(), n)
		}
		in := NewIndex(docs, Terms, nil)
		for _, query := range []string{"w0", "w0 w1 w1 w250", "absent", "", docs[n-1]} {
			if !slices.Equal(x.Scores(query), in.Scores(query)) {
				t.Errorf("%d documents, query %q: the scores differ from those in memory", n, query)
			}
		}
	}
}

func TestDamagedSegments(t *testing.T) {
	dir := store(t, randomDocs(50))
	path := segmentPath(dir, 0)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, headerLen, headerLen + 9, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if x, err := OpenStored(dir, Terms); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%d of %d bytes: %v, %v", n, len(whole), x, err)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 { // other bytes anywhere: no panic
		b := slices.Clone(whole)
		for range 5 {
			b[rng.IntN(len(b))] = byte(rng.UintN(256))
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if x, err := OpenStored(dir, Terms); err == nil {
			x.Scores("w0 w1 w2 w3 w50 w100")
			x.Close()
		}
	}
	if _, err := OpenStored(t.TempDir(), Terms); err == nil {
		t.Error("an empty folder is an index")
	}
}
