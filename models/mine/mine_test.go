package mine

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/models/index"
	"rag-retrieval-go/models/retriever"
)

func negatives(m Mined) (out []string) { return texts(m.Negatives...) }

// mineAll mines a set.
func mineAll(t *testing.T, j Job) ([]Mined, Report) {
	t.Helper()
	if j.Options.SamplingStrategy == "" {
		j.Options.SamplingStrategy = Top
	}
	var out []Mined
	r, err := Run(t.Context(), j, func(m Mined) error {
		out = append(out, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, r
}

// Equal texts, a query's own positives and the text of the query never become negatives; every query's fate is counted.
func TestRun(t *testing.T) {
	rows := [][2]string{
		{"red fox", "a red fox runs"}, {"blue sky", "the sky is blue"}, {"red fox", "foxes are red fox animals"}, {"red fox", "a red fox runs"},
		{"nothing shared", "zzz"},
	}
	docs := []string{"red fox", "red red fox", "a red fox runs", "red red fox", "blue blue sky", "a fox"}
	s := openSet(t, rows, docs)
	if s.Queries() != 3 || s.Len() != len(docs)-1+3 || s.mostRows != 3 {
		t.Fatalf("%d queries, %d documents, %d rows of a query", s.Queries(), s.Len(), s.mostRows)
	}
	x, err := NewBM25(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	got, r := mineAll(t, Job{Set: s, Searcher: x, Options: Options{NumNegatives: 2}})
	if len(got) != 3 || got[0].Query.Text != "red fox" || !reflect.DeepEqual(texts(got[0].Positives...), []string{"a red fox runs", "foxes are red fox animals"}) {
		t.Fatalf("%+v", got)
	}
	for i, want := range [][]string{{"red red fox", "a fox"}, {"blue blue sky"}, nil} {
		if !reflect.DeepEqual(negatives(got[i]), want) {
			t.Errorf("%q: %q, want %q", got[i].Query.Text, negatives(got[i]), want)
		}
	}
	if r.Kept != 1 || r.TooFew != 1 || r.AllFiltered != 0 || r.NoCandidates != 1 || r.Candidates.Chosen != 3 || r.Positives != 4 {
		t.Errorf("%+v", r)
	}
	if all, _ := mineAll(t, Job{Set: s, Searcher: x, Options: Options{NumNegatives: 2, RangeMax: math.MaxInt}}); !reflect.DeepEqual(all, got) {
		t.Errorf("a range_max above the number of documents: %+v", all)
	}
	_, r = mineAll(t, Job{Set: s, Searcher: x, Options: Options{NumNegatives: 2, MaxScore: limit(-1)}})
	if r.Kept != 0 || r.AllFiltered != 2 || r.NoCandidates != 1 || r.Candidates.MaxScore != 3 {
		t.Errorf("%+v", r)
	}
}

// A query's random draw does not depend on other queries.
func TestDrawOfOneQuery(t *testing.T) {
	f := readFixture(t)
	o := Options{NumNegatives: 3, SamplingStrategy: Random, RangeMax: 20, Seed: 3}
	all := openSet(t, f.Rows, f.Corpus)
	got, _ := mineAll(t, Job{Set: all, Searcher: f.searcher(t, all), Options: o})
	var docs []string
	for i := range all.Len() {
		text, err := all.Passage(i)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, text)
	}
	same := 0
	for _, m := range got {
		var rows [][2]string
		for _, p := range m.Positives {
			rows = append(rows, [2]string{m.Query.Text, p.Text})
		}
		one := openSet(t, rows, docs)
		alone, _ := mineAll(t, Job{Set: one, Searcher: f.searcher(t, one), Options: o})
		if reflect.DeepEqual(negatives(alone[0]), negatives(m)) {
			same++
		}
	}
	if same != len(got) {
		t.Errorf("%d of %d queries have the same draw without the others", same, len(got))
	}
}

// Bad rows are told with file and line before anything is computed.
func TestOpenSetErrors(t *testing.T) {
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "x.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pairs := `{"query":"a","pos":"b"}` + "\n"
	for want, x := range map[string][2]string{
		`x.jsonl:2: mining needs rows of {"query", "pos"`: {pairs + `{"query":"a","content":"b","label":1}`, ""},
		`x.jsonl:2: "query" is missing`:                   {pairs + `{"pos":"b"}`, ""},
		`x.jsonl:1: "pos" has an empty text`:              {`{"query":"a","pos":["b"," "]}`, ""},
		`x.jsonl:1: "_id" (or "id") is missing or empty`:  {pairs, `{"text":"a"}`},
		`the id "1" is that of `:                          {pairs, `{"_id":"1","text":"a"}` + "\n" + `{"_id":"1","text":"b"}`},
	} {
		var docs []string
		if x[1] != "" {
			docs = append(docs, write(x[1]))
		}
		s, err := OpenSet(t.Context(), []string{write(x[0])}, docs, SetOptions{})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The text of a corpus's document is its title and text, and equal texts are one document whatever their ids.
func TestTitles(t *testing.T) {
	docs := lines(t, []object{{"_id": "1", "title": "red", "text": "fox"}, {"id": 2, "text": "red fox"}, {"_id": "3", "text": "red wolf"}})
	s, err := OpenSet(t.Context(), []string{lines(t, []object{{"query": "q", "prompt_for_query": "find: ", "pos": []string{"red fox", "p"}}})}, []string{docs}, SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Len() != 3 || !reflect.DeepEqual(s.queries[0].positives, []int32{0, 2}) {
		t.Errorf("%d documents, positives %v", s.Len(), s.queries[0].positives)
	}
	if q, err := s.QueryText(0); err != nil || q.Prompt != "find: " || !q.Query {
		t.Errorf("%+v, %v", q, err)
	}
}

// Scores of the cross-encoder that are no numbers, and texts that the models refuse, are told with the query's place.
func TestRunErrors(t *testing.T) {
	f := readFixture(t)
	s := openSet(t, f.Rows, nil)
	nan := float32(0)
	nan /= nan
	j := Job{Set: s, Searcher: f.searcher(t, s), CrossEncoder: f, Options: Options{NumNegatives: 3, SamplingStrategy: Top, Rescored: true, MaxScore: limit(1)}}
	j.Activation = func(float32) float32 { return nan }
	if _, err := Run(t.Context(), j, func(Mined) error { return nil }); err == nil || !strings.Contains(err.Error(), "rows.jsonl:1: the cross-encoder's score is not a number") {
		t.Error(err)
	}
	delete(f.Vectors, f.Rows[0][0])
	if _, err := Run(t.Context(), j, func(Mined) error { return nil }); err == nil || !strings.Contains(err.Error(), "rows.jsonl:1: ") {
		t.Error(err)
	}
}

var (
	_ Searcher         = Vectors{}
	_ Searcher         = BM25{}
	_ index.Source     = (*Set)(nil)
	_ retriever.Ranker = (*fixture)(nil)
)
