package bm25

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestTerms(t *testing.T) {
	for text, want := range map[string][]string{
		"Reverse the list_2!": {"reverse", "the", "list", "2"},
		"如何 reset密码":          {"如", "何", "如何", "reset", "密", "码", "密码"},
		" ,":                  nil,
		"Über":                {"über"},
	} {
		if got := Terms(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Scores are compared with a calculation by hand: two documents of 2 and 4 terms, mean 3. "a" is in both, "b" is twice in the
// second.
func TestScores(t *testing.T) {
	x := NewIndex([]string{"a c", "a b b d"}, Terms, nil)
	weight := func(n, length float64) float64 { return n * 2.2 / (n + 1.2*(0.25+0.75*length/3)) }
	both, one := math.Log(1+0.5/2.5), math.Log(1+(2-1+0.5)/(1+0.5))
	want := []float64{both * weight(1, 2), both*weight(1, 4) + one*weight(2, 4)}
	for i, got := range x.Scores("B a") {
		if math.Abs(got-want[i]) > 1e-12 {
			t.Errorf("document %d: %g, want %g", i, got, want[i])
		}
	}
	if got := x.Top("b", 2, -1); !reflect.DeepEqual(got, []int{1, 0}) {
		t.Errorf("top %v", got)
	}
	only := NewIndex([]string{"a c", "a b b d"}, Terms, func(term string) bool { return term == "b" })
	if s := only.Scores("a b"); s[0] != 0 || math.Abs(s[1]-one*weight(2, 4)) > 1e-12 {
		t.Errorf("restricted: %v", s)
	}
}

// Best is the beginning of all documents sorted by score, without those of no score.
func TestBest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 40 {
		scores := make([]float64, 30)
		for i := range scores {
			scores[i] = float64(r.IntN(12)) // many are equal, some are zero
		}
		var want []int
		for s := 11; s > 0; s-- {
			for i, x := range scores {
				if int(x) == s && len(want) < n {
					want = append(want, i)
				}
			}
		}
		if got := Best(scores, n); !reflect.DeepEqual(got, want) {
			t.Errorf("%d of %v: %v, want %v", n, scores, got, want)
		}
	}
}
