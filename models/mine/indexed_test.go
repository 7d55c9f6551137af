package mine

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"sort"
	"strings"
	"testing"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
)

// store is an index of texts with the fixture's vectors.
type store struct {
	f     *fixture
	texts []string
}

func (s store) Search(_ context.Context, queries [][]float32, k int, _ index.Filter) ([][]index.Hit, error) {
	out := make([][]index.Hit, len(queries))
	for i, q := range queries {
		for d, text := range s.texts {
			sum := float32(0)
			for at, x := range s.f.Vectors[text] {
				sum += x * q[at]
			}
			out[i] = append(out[i], index.Hit{Document: d, Score: sum})
		}
		sort.SliceStable(out[i], func(a, b int) bool { return out[i][a].Score > out[i][b].Score })
		out[i] = out[i][:min(k, len(out[i]))]
	}
	return out, nil
}

func (s store) BM25(context.Context, []string, int, index.Filter) ([][]index.Hit, error) {
	return nil, nil
}

func (s store) Fields(context.Context) ([]string, error) { return nil, nil }

func (s store) Documents(_ context.Context, numbers []int) ([]corpus.Document, error) {
	var out []corpus.Document
	for _, n := range numbers {
		out = append(out, corpus.Document{Text: s.texts[n]})
	}
	return out, nil
}

// indexed searches documents of an index beside a set of rows.
func (f *fixture) indexed(t *testing.T, rows [][2]string, docs []string) Job {
	t.Helper()
	var pairs []object
	for _, r := range rows {
		pairs = append(pairs, object{"query": r[0], "pos": r[1]})
	}
	s, err := OpenSet(t.Context(), []string{lines(t, pairs)}, nil, SetOptions{Find: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return Job{Set: s, Searcher: &Indexed{Vectors: f.searcher(t, s), Index: store{f, docs}}, CrossEncoder: f}
}

// An index in place of the corpus gives the rows of sentence-transformers with that corpus.
func TestFixtureIndexed(t *testing.T) {
	f, cases := readFixture(t), 0
	for _, c := range f.Cases {
		x := options{NumNegatives: DefaultNegatives, SamplingStrategy: Top}
		if err := json.Unmarshal(c.Options, &x); err != nil {
			t.Fatal(err)
		}
		if !x.Corpus {
			continue
		}
		cases++
		j := f.indexed(t, f.Rows, f.Corpus)
		j.Options = x.mine()
		var out bytes.Buffer
		w := NewWriter(&out, c.OutputFormat, true, x.NumNegatives)
		if _, err := Run(t.Context(), j, w.Write); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		if w.Rows != len(c.Rows) {
			t.Fatalf("%s: %d rows, want %d", c.Name, w.Rows, len(c.Rows))
		}
		for i, want := range c.Rows {
			compareRow(t, got[i], c.Columns, want)
		}
	}
	if cases < 5 {
		t.Errorf("%d cases", cases)
	}
}

// Documents of the index that equal the query, a positive or each other are no negatives, or one.
func TestIndexedEqualTexts(t *testing.T) {
	f := readFixture(t)
	query, positive := f.Rows[0][0], f.Rows[0][1]
	extra := f.Corpus[:4]
	j := f.indexed(t, [][2]string{{query, positive}}, []string{query, extra[0], positive, extra[1], extra[0], extra[1], query})
	j.Options.NumNegatives = 5
	got, r := mineAll(t, j)
	want := map[string]bool{extra[0]: true, extra[1]: true}
	found := map[string]bool{}
	for _, n := range negatives(got[0]) {
		found[n] = true
	}
	if !reflect.DeepEqual(found, want) || len(got[0].Negatives) != 2 || r.TooFew != 1 {
		t.Errorf("%q, %+v", negatives(got[0]), r)
	}
}
