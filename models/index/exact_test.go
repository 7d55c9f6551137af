package index

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
)

// randomVectors makes n vectors of length one; every tenth equals the one before, so that scores tie.
func randomVectors(n, dimension int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	values := make([]float32, n*dimension)
	for i := range n {
		row := values[i*dimension : (i+1)*dimension]
		if i%10 == 9 {
			copy(row, values[(i-1)*dimension:])
			continue
		}
		sum := 0.0
		for j := range row {
			row[j] = float32(rng.NormFloat64())
			sum += float64(row[j]) * float64(row[j])
		}
		for j := range row {
			row[j] /= float32(math.Sqrt(sum))
		}
	}
	return values
}

func rowsOf(values []float32, dimension int) [][]float32 {
	return slices.Collect(slices.Chunk(values, dimension))
}

// product is the search of a reader who has time: all scores in float64, sorted.
func product(v *Vectors, query []float32, only []int) []Hit {
	var out []Hit
	for i := range v.Len() {
		if only != nil && !slices.Contains(only, i) {
			continue
		}
		sum := 0.0
		for j, x := range v.Row(i) {
			sum += float64(x) * float64(query[j])
		}
		out = append(out, Hit{i, float32(sum)})
	}
	slices.SortFunc(out, compareHits)
	return out
}

func TestSearchIsExact(t *testing.T) {
	for name, x := range map[string]struct {
		documents, dimension, queries, k int
		only                             []int
	}{
		"one document":           {1, 3, 2, 5, nil},
		"fewer documents than k": {7, 5, 3, 10, nil},
		"ties":                   {1000, 16, 20, 30, nil},
		"several blocks":         {2*documentsPerRun + 77, 4, queriesPerRun + 3, 7, nil},
		"many of each block":     {2*documentsPerRun + 9, 2, 3, documentsPerRun + 5, nil},
		"some documents":         {1000, 16, 5, 10, []int{3, 8, 9, 500, 998, 999}},
		"no documents":           {1000, 16, 5, 10, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			v := VectorsOf(randomVectors(x.documents, x.dimension, 1), x.dimension)
			queries := rowsOf(randomVectors(x.queries, x.dimension, 2), x.dimension)
			for _, topK := range []bool{false, true} {
				checkSearch(t, v, queries, x.k, x.only, topK)
			}
		})
	}
}

// checkSearch compares a search with product's. With topK, the graph is that of CUDA.
func checkSearch(t *testing.T, v *Vectors, queries [][]float32, k int, only []int, topK bool) {
	t.Helper()
	e, err := newExact(v, runtime.Options{Threads: 2}, topK)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	got, err := e.Search(context.Background(), queries, k, SearchOptions{Documents: only})
	if err != nil {
		t.Fatal(err)
	}
	for q := range queries {
		if q%50 != 0 && q < len(queries)-2 { // product is slow
			continue
		}
		want := product(v, queries[q], only)
		want = want[:min(k, len(want))]
		if len(got[q]) != len(want) {
			t.Fatalf("query %d has %d hits, want %d", q, len(got[q]), len(want))
		}
		for i, h := range got[q] {
			// Scores round differently in float32, so that documents may change places where they are almost equal.
			if math.Abs(float64(h.Score-want[i].Score)) > 1e-6 {
				t.Fatalf("query %d, place %d: %v, want %v", q, i, h, want[i])
			}
			if i > 0 && compareHits(got[q][i-1], h) >= 0 {
				t.Fatalf("query %d: %v stands before %v", q, got[q][i-1], h)
			}
		}
	}
}

func TestHitsTravel(t *testing.T) {
	want := [][]Hit{{{3, 0.5}, {1, -0.25}}, {}, {{7, 1}}}
	got, err := decodeHits(encodeHits(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	b := encodeHits(want)
	for n := 1; n < len(b); n++ {
		if hits, err := decodeHits(b[:n]); err == nil && len(hits) == len(want) {
			t.Errorf("%d of %d bytes are taken for all", n, len(b))
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	v := VectorsOf([]float32{1, 0, 0, 1}, 2)
	e, err := NewExact(v, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Search(context.Background(), [][]float32{{1, 0, 0}}, 1, SearchOptions{}); err == nil {
		t.Error("a query of another dimension was searched")
	}
	if _, err := e.Search(context.Background(), [][]float32{{1, 0}}, 0, SearchOptions{}); err == nil {
		t.Error("a search for no documents was made")
	}
	if _, err := e.Search(context.Background(), [][]float32{{float32(math.NaN()), 0}}, 1, SearchOptions{}); err == nil {
		t.Error("a query that is not a number was searched")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Search(ctx, [][]float32{{1, 0}}, 1, SearchOptions{}); err == nil {
		t.Error("a search did not end with its context")
	}
}

// k may be any number; a search that finds fewer documents gives those.
func TestSearchForMoreThanThereAre(t *testing.T) {
	const n = 200
	e, err := NewExact(VectorsOf(randomVectors(n, 3, 1), 3), runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, k := range []int{n, n + 1, 1 << 40, math.MaxInt} {
		if hits, err := e.Search(context.Background(), [][]float32{{1, 0, 0}}, k, SearchOptions{}); err != nil || len(hits[0]) != n {
			t.Errorf("k %d: %d hits, %v", k, len(hits[0]), err)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	const documents, dimension, queries = 200_000, 384, 2048
	v := VectorsOf(randomVectors(documents, dimension, 1), dimension)
	q := rowsOf(randomVectors(queries, dimension, 2), dimension)
	e, err := NewExact(v, runtime.Options{Threads: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for _, k := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			for b.Loop() {
				if _, err := e.Search(context.Background(), q, k, SearchOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(documents)*queries*2*dimension/1e9*float64(b.N)/b.Elapsed().Seconds(), "GFLOP/s")
		})
	}
}
