package mine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// fixture is what scripts/fixtures/make_mining.py wrote.
type fixture struct {
	Rows         [][2]string
	Corpus       []string
	Vectors      map[string][]float32
	CrossEncoder map[string]map[string]float32 `json:"cross_encoder"`
	Cases        []struct {
		Name         string
		Options      json.RawMessage
		OutputFormat string `json:"output_format"`
		Columns      []string
		Rows         [][]any
	}
}

// Encode implements retriever.Embedder with the fixture's vectors.
func (f *fixture) Encode(_ context.Context, texts []prompt.Text, _ retriever.EncodeOptions) ([]retriever.Embedding, error) {
	out := make([]retriever.Embedding, len(texts))
	for i, t := range texts {
		if out[i].Values = f.Vectors[t.Text]; out[i].Values == nil {
			return nil, &retriever.TextError{Index: i, Err: fmt.Errorf("%q has no vector", t.Text)}
		}
	}
	return out, nil
}

func (f *fixture) Similarity(retriever.Embedding, []retriever.Embedding) ([]float32, error) {
	return nil, nil
}

func (f *fixture) Info() retriever.Info { return retriever.Info{} }

// Rank implements retriever.Ranker with the fixture's scores.
func (f *fixture) Rank(_ context.Context, queries []retriever.Query, _ retriever.RankOptions, emit func([]float32) error) error {
	for _, q := range queries {
		var scores []float32
		for _, d := range q.Documents {
			scores = append(scores, f.CrossEncoder[q.Texts[0]][d])
		}
		if err := emit(scores); err != nil {
			return err
		}
	}
	return nil
}

// options are those of sentence-transformers.
type options struct {
	RangeMin         int      `json:"range_min"`
	RangeMax         int      `json:"range_max"`
	MaxScore         *float64 `json:"max_score"`
	MinScore         *float64 `json:"min_score"`
	AbsoluteMargin   *float64 `json:"absolute_margin"`
	RelativeMargin   *float64 `json:"relative_margin"`
	NumNegatives     int      `json:"num_negatives"`
	SamplingStrategy string   `json:"sampling_strategy"`
	IncludePositives bool     `json:"include_positives"`
	CrossEncoder     bool     `json:"cross_encoder"`
	Corpus           bool
}

func (o options) mine() Options {
	return Options{
		RangeMin: o.RangeMin, RangeMax: o.RangeMax, MaxScore: o.MaxScore, MinScore: o.MinScore, AbsoluteMargin: o.AbsoluteMargin,
		RelativeMargin: o.RelativeMargin, NumNegatives: o.NumNegatives, SamplingStrategy: o.SamplingStrategy,
		IncludePositives: o.IncludePositives, Rescored: o.CrossEncoder, Seed: 7,
	}
}

func readFixture(t *testing.T) *fixture {
	t.Helper()
	b, err := os.ReadFile("testdata/mining.json")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{}
	if err := json.Unmarshal(b, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// lines writes rows as a file of JSON lines.
func lines[T any](t *testing.T, rows []T) string {
	t.Helper()
	var b bytes.Buffer
	for _, r := range rows {
		if err := json.NewEncoder(&b).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type object = map[string]any

// openSet opens rows of query and positive, and a corpus.
func openSet(t *testing.T, rows [][2]string, docs []string) *Set {
	t.Helper()
	var pairs, documents []object
	for _, r := range rows {
		pairs = append(pairs, object{"query": r[0], "pos": r[1]})
	}
	for i, text := range docs {
		documents = append(documents, object{"_id": fmt.Sprint(i), "text": text})
	}
	var corpus []string
	if docs != nil {
		corpus = append(corpus, lines(t, documents))
	}
	s, err := OpenSet(t.Context(), []string{lines(t, pairs)}, corpus, SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// searcher searches a set with the fixture's vectors.
func (f *fixture) searcher(t *testing.T, s *Set) Vectors {
	t.Helper()
	var values []float32
	for i := range s.Len() {
		text, err := s.Passage(i)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, f.Vectors[text]...)
	}
	v := index.VectorsOf(values, len(values)/s.Len())
	x, err := index.NewExact(v, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return Vectors{Set: s, Embedder: f, Documents: v, Exact: x}
}

// With the same vectors, the negatives, their scores and the rows are those of sentence-transformers.
func TestFixture(t *testing.T) {
	f := readFixture(t)
	for _, c := range f.Cases {
		t.Run(c.Name+" "+c.OutputFormat, func(t *testing.T) {
			x := options{NumNegatives: DefaultNegatives, SamplingStrategy: Top}
			if err := json.Unmarshal(c.Options, &x); err != nil {
				t.Fatal(err)
			}
			var docs []string
			if x.Corpus {
				docs = f.Corpus
			}
			s := openSet(t, f.Rows, docs)
			var out bytes.Buffer
			w := NewWriter(&out, c.OutputFormat, true, x.NumNegatives)
			j := Job{Set: s, Searcher: f.searcher(t, s), Options: x.mine(), CrossEncoder: f}
			if _, err := Run(t.Context(), j, w.Write); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			if w.Rows != len(c.Rows) {
				t.Fatalf("%d rows, want %d", w.Rows, len(c.Rows))
			}
			for i, want := range c.Rows {
				compareRow(t, got[i], c.Columns, want)
			}
		})
	}
}

// compareRow compares a row, its columns' order included.
func compareRow(t *testing.T, got string, names []string, want []any) {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal([]byte(got), &values); err != nil {
		t.Fatal(err)
	}
	at := -1
	for i, name := range names {
		next := strings.Index(got, fmt.Sprintf("%q:", name))
		if next <= at || !same(values[name], want[i]) {
			t.Fatalf("%q is %v, want %v, in %s", name, values[name], want[i], got)
		}
		at = next
	}
	if len(values) != len(names) {
		t.Fatalf("%s has columns besides %v", got, names)
	}
}

// same compares JSON values, numbers to 1e-6.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && math.Abs(a-b) <= 1e-6
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}
