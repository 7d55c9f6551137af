package pgvector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rag-retrieval-go/internal/bm25"
	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index"
)

// best sorts all documents that keep accepts by score.
func best(n, k int, score func(i int) float64, keep func(i int) bool) []index.Hit {
	var all []index.Hit
	for i := range n {
		if keep == nil || keep(i) {
			all = append(all, index.Hit{Document: i, Score: float32(score(i))})
		}
	}
	slices.SortStableFunc(all, func(a, b index.Hit) int { return cmp.Compare(b.Score, a.Score) })
	return all[:min(k, len(all))]
}

// scorer scores documents as Search does.
func scorer(docs source, dimension int) func(q []float32) func(i int) float64 {
	var vectors [][]float32
	for _, d := range docs {
		vectors = append(vectors, vectorOf("m"+d.Passage(), dimension))
	}
	return func(q []float32) func(i int) float64 { return func(i int) float64 { return dot(q, vectors[i]) } }
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// same compares hits with the wanted ones: scores to 1e-6, and documents where scores differ by more.
func same(t *testing.T, what string, got, want []index.Hit) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d hits, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		alike := func(j int) bool {
			return j >= 0 && j < len(want) && math.Abs(float64(want[j].Score-want[i].Score)) < 2e-6
		}
		if math.Abs(float64(got[i].Score-want[i].Score)) > 1e-6 || got[i].Document != want[i].Document && !alike(i-1) && !alike(i+1) && i < len(want)-1 {
			t.Errorf("%s: hit %d is %v, want %v", what, i, got[i], want[i])
			return
		}
	}
}

var isChinese = index.Filter{{Field: "lang", Value: "zh"}}

func chinese(d corpus.Document) bool { return strings.Contains(string(d.Metadata), `"zh"`) }

// An exact search finds the documents of the highest inner products, as a loop in Go does, with filters too.
func TestExact(t *testing.T) {
	docs := madeUp(3000, 5)
	s, score := built(t, docs, 24, Exact), scorer(docs, 24)
	var queries [][]float32
	for i := range 300 { // more than a batch
		queries = append(queries, vectorOf(fmt.Sprint("query ", i), 24))
	}
	for _, filter := range []index.Filter{nil, isChinese} {
		hits, err := s.Search(t.Context(), queries, 10, filter)
		check(t, err)
		for i, q := range queries {
			same(t, fmt.Sprint(filter, " query ", i), hits[i], best(len(docs), 10, score(q), func(j int) bool { return filter == nil || chinese(docs[j]) }))
		}
	}
	all, err := s.Search(t.Context(), queries[:1], 5000, nil)
	check(t, err)
	if len(all[0]) != len(docs) {
		t.Errorf("%d hits, want all %d", len(all[0]), len(docs))
	}
	if _, err := s.Search(t.Context(), [][]float32{make([]float32, 3)}, 1, nil); err == nil || err.Error() != "query 1 is a vector of 3 numbers, the collection has vectors of 24" {
		t.Error(err)
	}
	if _, err := s.Search(t.Context(), queries, 0, nil); err == nil {
		t.Error("no error for k 0")
	}
}

// Equal scores are in the order of documents, and with an exact search the first ones of the corpus where k cuts among them.
func TestEqualScores(t *testing.T) {
	for _, ann := range []ANN{Exact, HNSW} {
		docs := madeUp(200, 5)
		for i := range docs {
			docs[i].Title, docs[i].Text = "", fmt.Sprint("text", i%2)
		}
		s := built(t, docs, 8, ann)
		hits, err := s.Search(t.Context(), [][]float32{vectorOf("mtext1", 8)}, 60, nil)
		check(t, err)
		if len(hits[0]) != 60 || !slices.IsSortedFunc(hits[0], func(a, b index.Hit) int { return cmp.Compare(a.Document, b.Document) }) {
			t.Errorf("%s: %v", ann, hits[0])
		}
		for i, h := range hits[0] {
			if h.Document%2 == 0 || ann == Exact && h.Document != 2*i+1 || math.Abs(float64(h.Score)-1) > 1e-6 {
				t.Fatalf("%s: hit %d is %v", ann, i, h)
			}
		}
	}
}

// HNSW finds nearly all of the best documents, all k where a filter leaves few, and more than its limit of candidates.
func TestHNSW(t *testing.T) {
	docs := madeUp(4000, 5)
	docs[77].Metadata = json.RawMessage(`{"rare": true}`)
	s, score := built(t, docs, 16, HNSW), scorer(docs, 16)
	found := 0
	var queries [][]float32
	for i := range 50 {
		queries = append(queries, vectorOf(fmt.Sprint("query ", i), 16))
	}
	for _, filter := range []index.Filter{nil, isChinese} {
		hits, err := s.Search(t.Context(), queries, 100, filter)
		check(t, err)
		found = 0
		for i, q := range queries {
			want := map[int]bool{}
			for _, h := range best(len(docs), 100, score(q),
				func(j int) bool { return filter == nil || chinese(docs[j]) }) {
				want[h.Document] = true
			}
			if len(hits[i]) != 100 {
				t.Errorf("%d hits", len(hits[i]))
			}
			for _, h := range hits[i] {
				if want[h.Document] {
					found++
				}
			}
		}
		if found < 90*len(queries) {
			t.Errorf("%v: %d of %d were found", filter, found, 100*len(queries))
		}
	}
	if plan := explainSearch(t, s, queries[0]); !strings.Contains(plan, "documents_1_embedding") {
		t.Errorf("the index is not used:\n%s", plan)
	}
	hits, err := s.Search(t.Context(), queries[:1], 3000, nil)
	check(t, err)
	if len(hits[0]) != 3000 {
		t.Errorf("%d hits, want 3000", len(hits[0]))
	}
	hits, err = s.Search(t.Context(), queries, 10, index.Filter{{Field: "rare", Value: "true"}})
	check(t, err)
	for i, h := range hits {
		if len(h) != 1 || h[0].Document != 77 {
			t.Errorf("query %d: %v, want document 77", i, h)
		}
	}
	// Another kind of search needs no new rows.
	b := buildOf(docs, 16, Exact)
	check(t, s.Build(t.Context(), b))
	if e := b.Embedder.(*hashed); e.encoded > 0 {
		t.Errorf("%d texts were encoded", e.encoded)
	}
	if plan := explainSearch(t, s, queries[0]); strings.Contains(plan, "documents_1_embedding") {
		t.Errorf("the index is used:\n%s", plan)
	}
	if m, _ := s.Manifest(); m.ANN != Exact {
		t.Errorf("%+v", m)
	}
}

// Vectors beyond HNSW's limit are indexed with 16 bits a number; beyond that limit HNSW is refused.
func TestLongVectors(t *testing.T) {
	docs := madeUp(300, 5)
	s := built(t, docs, 2500, HNSW)
	q := vectorOf("m"+docs[3].Passage(), 2500)
	hits, err := s.Search(t.Context(), [][]float32{q}, 50, nil)
	check(t, err)
	same(t, "halfvec", hits[0], best(len(docs), 50, scorer(docs, 2500)(q), nil))
	for _, c := range []struct {
		dimension int
		ann       ANN
		want      string
	}{
		{4001, HNSW, "vectors of 4001 numbers: pgvector's HNSW index takes at most 4000; search exactly (--ann exact)"},
		{16001, Exact, "vectors of 16001 numbers: pgvector holds at most 16000"},
	} {
		b := buildOf(docs, c.dimension, c.ann)
		b.Fresh = true
		if err := s.Build(t.Context(), b); err == nil || err.Error() != c.want {
			t.Errorf("%v", err)
		}
	}
	if m, _ := s.Manifest(); m.Dimension != 2500 || !m.Complete {
		t.Errorf("a refused call changed the collection: %+v", m)
	}
}

func explainSearch(t *testing.T, s *Store, q []float32) string {
	t.Helper()
	text := strings.ReplaceAll(fmt.Sprint(q), " ", ",")
	var plan []string
	check(t, s.read(t.Context(), func(tx pgx.Tx) error {
		if err := setHNSW(t.Context(), tx, s.collection, 10); err != nil {
			return err
		}
		sql := s.collection.searchSQL("", 10, s.collection.ANN == HNSW)
		rows, err := tx.Query(t.Context(), "EXPLAIN "+strings.ReplaceAll(sql, "$1", "'"+text+"'::vector"))
		if err != nil {
			return err
		}
		plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return strings.Join(plan, "\n")
}

// Filters compare numbers and texts, several fields together, and values with characters that mean something in SQL or JSON.
func TestFilter(t *testing.T) {
	var docs source
	for i, metadata := range []string{`{"year":2020,"lang":"zh"}`, `{"year":"2020","lang":"en"}`, `{"year":2021,"lang":"zh"}`, `{"ok":true}`, `{"ok":"true"}`,
		`{"a\"'":"x'); DROP TABLE y; --\\"}`, `{"eq":"a=b"}`, `{"n":1.50}`, ``, `{"null":null}`, `{"list":["zh"]}`} {
		d := corpus.Document{ID: fmt.Sprint(i), Text: fmt.Sprint("common text ", i)}
		if metadata != "" {
			d.Metadata = json.RawMessage(metadata)
		}
		docs = append(docs, d)
	}
	s := built(t, docs, 4, Exact)
	for _, c := range []struct {
		conditions []string
		want       []int
	}{
		{nil, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{[]string{"year=2020"}, []int{0, 1}},
		{[]string{`year="2020"`}, []int{1}},
		{[]string{"year=2020", "lang=zh"}, []int{0}},
		{[]string{"lang=zh"}, []int{0, 2}},
		{[]string{"ok=true"}, []int{3, 4}},
		{[]string{`a"'=x'); DROP TABLE y; --\`}, []int{5}},
		{[]string{"eq=a=b"}, []int{6}},
		{[]string{"n=1.5"}, []int{7}},
		{[]string{"null=null"}, nil},
		{[]string{"lang="}, nil},
	} {
		f, err := index.ParseFilter(c.conditions...)
		check(t, err)
		hits, err := s.Search(t.Context(), [][]float32{{1, 0, 0, 0}}, 20, f)
		check(t, err)
		words, err := s.BM25(t.Context(), []string{"common"}, 20, f)
		check(t, err)
		for name, got := range map[string][]int{"vectors": Numbers(hits[0]), "words": Numbers(words[0])} {
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, %s: %v, want %v", c.conditions, name, got, c.want)
			}
		}
	}
	if fields, err := s.Fields(t.Context()); err != nil || !slices.Equal(fields, []string{`a"'`, "eq", "lang", "list", "n", "null", "ok", "year"}) {
		t.Errorf("the fields are %q: %v", fields, err)
	}
	for _, wrong := range []string{"lang", "=zh", "", "a=\x00"} {
		if _, err := index.ParseFilter(wrong); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// Documents come back as they were written, in the order in which they are asked for.
func TestDocuments(t *testing.T) {
	docs := madeUp(1500, 5)
	docs[1100] = corpus.Document{ID: "中文 \"'", Title: "标题\n\t", Text: "文本 \\ \u2028 🙂", Metadata: json.RawMessage(`{"x": [1, {"y": null}]}`)}
	s := built(t, docs, 4, Exact)
	numbers := []int{1499, 0, 1100, 1100}
	got, err := s.Documents(t.Context(), numbers)
	check(t, err)
	for i, n := range numbers {
		want := docs[n]
		var a, b any
		if want.Metadata != nil || got[i].Metadata != nil {
			check(t, json.Unmarshal(want.Metadata, &a))
			check(t, json.Unmarshal(got[i].Metadata, &b))
		}
		got[i].Metadata, want.Metadata = nil, nil
		if !reflect.DeepEqual(got[i], want) || !reflect.DeepEqual(a, b) {
			t.Errorf("document %d: %+v %v, want %+v %v", n, got[i], b, want, a)
		}
	}
	if d, err := s.Document(t.Context(), 3); err != nil || d.ID != "d3" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := s.Document(t.Context(), 1500); err == nil || err.Error() != "document 1500, want 0 to 1499" {
		t.Error(err)
	}
}

// Scores of BM25 are those of internal/bm25, with filters, repeated words, words that no document has, Chinese and words that are
// longer than an index takes. The postings of several chunks and blocks are joined.
func TestBM25(t *testing.T) {
	defer func(before int) { blockLen = before }(blockLen)
	blockLen = 2 * ChunkLen
	docs := madeUp(2500, 30)
	long := strings.Repeat("verylong", 1000)
	docs[5].Text += long + " 如何重置密码"
	docs[2400].Text += long[1:]
	docs[8].Title, docs[8].Text = "...", "!" // no terms
	s := built(t, docs, 4, Exact)
	var texts []string
	for _, d := range docs {
		texts = append(texts, d.Passage())
	}
	reference := bm25.NewIndex(texts, bm25.Terms, nil)
	queries := []string{"w1 w2 w300", "w1 w1 w7", "nowhere", "", "密码 重置", long, "title " + docs[2].Text, "W4, W5"}
	for _, filter := range []index.Filter{nil, isChinese} {
		hits, err := s.BM25(t.Context(), queries, 50, filter)
		check(t, err)
		for i, q := range queries {
			scores := reference.Scores(q)
			want := best(len(docs), 50, func(j int) float64 { return scores[j] }, func(j int) bool { return scores[j] > 0 && (filter == nil || chinese(docs[j])) })
			same(t, fmt.Sprintf("%v %.30q", filter, q), hits[i], want)
		}
	}
	// All documents, in the reference's order.
	hits, err := s.BM25(t.Context(), queries[:1], len(docs), nil)
	check(t, err)
	if want := reference.Top(queries[0], len(hits[0]), -1); !slices.Equal(Numbers(hits[0]), want) {
		t.Error("another order than that of internal/bm25")
	}
}

// Without the files of a whole collection there is one message.
func TestNothingThere(t *testing.T) {
	docs := source{{ID: "1", Text: "..."}}
	s := built(t, docs, 4, Exact)
	if hits, err := s.BM25(t.Context(), []string{"a"}, 3, nil); err != nil || len(hits) != 1 || len(hits[0]) > 0 {
		t.Errorf("%v, %v", hits, err)
	}
	if hits, err := s.Search(t.Context(), nil, 3, nil); err != nil || len(hits) > 0 {
		t.Errorf("%v, %v", hits, err)
	}
	if err := s.Build(t.Context(), buildOf(nil, 4, Exact)); err == nil || err.Error() != "there are no documents to index" {
		t.Error(err)
	}
}
