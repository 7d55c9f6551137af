package index

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestKeysOrderHits(t *testing.T) {
	scores := []float32{float32(math.Inf(-1)), -2, -1, -1e-30, 0, 1e-30, 0.5, 1, float32(math.Inf(1))}
	for i, a := range scores {
		if got := hitOf(keyOf(Hit{7, a})); got != (Hit{7, a}) {
			t.Errorf("%v comes back as %v", Hit{7, a}, got)
		}
		if keyOf(Hit{7, a}) <= keyOf(Hit{8, a}) {
			t.Errorf("of equal scores %g, the document with the lower number is not the better one", a)
		}
		for _, b := range scores[:i] {
			if keyOf(Hit{8, a}) <= keyOf(Hit{7, b}) {
				t.Errorf("%g is not better than %g", a, b)
			}
		}
	}
	if keyOf(Hit{1, float32(math.Copysign(0, -1))}) != keyOf(Hit{1, 0}) {
		t.Error("-0 is not 0")
	}
}

// The lists of many random scores with ties are those of a sort.
func TestBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		n, k := rng.IntN(400), 1+rng.IntN(120)
		b, all := newBest(k), []Hit(nil)
		for from := 0; from < n; {
			part := make([]float32, 1+rng.IntN(100))
			for i := range part {
				part[i] = float32(rng.IntN(60)-30) / 8
				all = append(all, Hit{3 * (from + i), part[i]})
			}
			b.offer(part, func(i int) int { return 3 * (from + i) })
			from += len(part)
		}
		slices.SortFunc(all, compareHits)
		all = all[:min(k, len(all))]
		if got := b.hits(); !slices.Equal(got, all) {
			t.Fatalf("%d best of %d are %v, want %v", k, n, got, all)
		}
	}
}

func TestGreatestFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for range 5000 {
		keys := make([]uint64, 1+rng.IntN(60))
		for i := range keys {
			keys[i] = rng.Uint64N(20) // with equal ones
		}
		want, k := slices.Clone(keys), rng.IntN(len(keys)+1)
		slices.Sort(want)
		slices.Reverse(want)
		greatestFirst(keys, k)
		slices.Sort(keys[:k])
		slices.Reverse(keys[:k])
		if !slices.Equal(keys[:k], want[:k]) {
			t.Fatalf("the %d greatest are %v, want %v", k, keys[:k], want[:k])
		}
	}
}
