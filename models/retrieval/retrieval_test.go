package retrieval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// models are small ones of both kinds that make vectors.
var models = map[modelcard.Kind]string{
	modelcard.Embedding: "../embedding/testdata/tiny", modelcard.ColBERT: "../colbert/testdata/pylate",
}

// task makes a task of so many documents and queries over the small models' letters.
func task(t *testing.T, documents, queries int) mteb.RetrievalTask {
	t.Helper()
	var corpus, asked, qrels strings.Builder
	for i := range documents {
		fmt.Fprintf(&corpus, "{\"_id\": \"d%d\", \"title\": \"%c\", \"text\": \"%s%d\"}\n", i, 'a'+i%26, strings.Repeat("the er ", i%4), 7*i%103)
	}
	for i := range queries {
		fmt.Fprintf(&asked, "{\"_id\": \"q%d\", \"text\": \"the %c of %d\"}\n", i, 'a'+i%26, i)
		fmt.Fprintf(&qrels, "{\"query-id\": \"q%d\", \"corpus-id\": \"d%d\", \"score\": 1}\n", i, i*3%documents)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"corpus.jsonl": corpus.String(), "queries.jsonl": asked.String(), "qrels.jsonl": qrels.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := mteb.ReadRetrieval(dir, mteb.RetrievalOptions{}, func(path string) (string, error) { return path, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}

func open(t *testing.T, kind modelcard.Kind) *retriever.Model {
	t.Helper()
	m, err := retriever.Open(t.Context(), models[kind], retriever.Options{Kind: kind, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func embedder(t *testing.T, m *retriever.Model) retriever.Embedder {
	t.Helper()
	e, err := m.Embedder()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func multiVector(t *testing.T, m *retriever.Model) retriever.MultiVector {
	t.Helper()
	e, ok := embedder(t, m).(retriever.MultiVector)
	if !ok {
		t.Fatal("a ColBERT model has a vector for each token")
	}
	return e
}

func quiet(string, int, int) {}

// A search finds what ranking every document with the same model finds.
func TestSearchEqualsRanking(t *testing.T) {
	data := task(t, 50, 9)
	passages := make([]string, data.Corpus.Len())
	for i := range passages {
		var err error
		if passages[i], err = data.Corpus.Passage(i); err != nil {
			t.Fatal(err)
		}
	}
	for kind := range models {
		m := open(t, kind)
		var s mteb.Searcher = dense(t, m)
		if kind == modelcard.ColBERT {
			s = MaxSim{Embedder: multiVector(t, m)}
		}
		run, err := s.Search(t.Context(), data, 10, quiet)
		if err != nil {
			t.Fatal(err)
		}
		for i, q := range data.Queries {
			scores, err := m.Scores(t.Context(), q.Text, passages...)
			if err != nil {
				t.Fatal(err)
			}
			order := slices.Clone(scores)
			slices.SortFunc(order, func(a, b float32) int { return cmp.Compare(b, a) })
			if len(run[i]) != 10 {
				t.Fatalf("%s: %d hits", kind, len(run[i]))
			}
			for rank, h := range run[i] {
				if math.Abs(float64(h.Score-scores[h.Document])) > 1e-5 || math.Abs(float64(h.Score-order[rank])) > 1e-5 {
					t.Errorf("%s: %s: hit %d is document %d with %g, whose score is %g; the score there is %g", kind, q.ID, rank, h.Document, h.Score, scores[h.Document], order[rank])
				}
			}
		}
	}
}

func dense(t *testing.T, m *retriever.Model) Dense {
	t.Helper()
	return Dense{Embedder: embedder(t, m), Fingerprint: "x", Dir: t.TempDir()}
}

// BM25 finds the documents that share a word with the query, best first.
func TestBM25Search(t *testing.T) {
	data := task(t, 30, 4)
	run, err := BM25{}.Search(t.Context(), data, 5, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for i, hits := range run {
		if len(hits) == 0 || len(hits) > 5 || !slices.IsSortedFunc(hits, func(a, b mteb.Hit) int { return cmp.Compare(b.Score, a.Score) }) {
			t.Errorf("query %d: %v", i, hits)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (BM25{}).Search(ended, data, 5, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A stopped MaxSim search goes on after its last chunk and ends with the same run. A file of another form is begun anew.
func TestMaxSimGoesOn(t *testing.T) {
	interval := stateInterval
	stateInterval = 0
	defer func() { stateInterval = interval }()
	data, e := task(t, chunkLen+40, 3), multiVector(t, open(t, modelcard.ColBERT))
	whole, err := MaxSim{Embedder: e}.Search(t.Context(), data, 20, quiet)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(state, []byte("nothing of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := MaxSim{Embedder: e, State: state, Warn: func(err error) { t.Error(err) }}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Search(ctx, data, 20, func(stage string, done, _ int) {
		if stage == encodingDocuments && done > chunkLen {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	first := -1
	went, err := s.Search(t.Context(), data, 20, func(stage string, done, _ int) {
		if stage == encodingDocuments && first < 0 {
			first = done
		}
	})
	if err != nil || !reflect.DeepEqual(went, whole) || first <= chunkLen {
		t.Errorf("went on at %d: %v", first, err)
	}
	again, err := s.Search(t.Context(), data, 20, func(stage string, _, _ int) {
		if stage == encodingDocuments {
			t.Error("a finished search encodes documents")
		}
	})
	if err != nil || !reflect.DeepEqual(again, whole) {
		t.Errorf("once more: %v", err)
	}
}

// best keeps what sorting keeps.
func TestBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		k := rng.IntN(8)
		b, all := best{k: k}, []mteb.Hit(nil)
		for i := range rng.IntN(30) {
			h := mteb.Hit{Document: i, Score: float32(rng.IntN(6))}
			b.add(h)
			all = append(all, h)
		}
		slices.SortFunc(all, func(x, y mteb.Hit) int { return worse(y, x) })
		if got := b.hits(); !slices.Equal(got, all[:min(k, len(all))]) {
			t.Errorf("%v, want %v", got, all[:min(k, len(all))])
		}
	}
}
