package lowrank

import (
	"math"
	"testing"
)

func TestAdd(t *testing.T) {
	for _, rank := range []int{1, 3, 4, 9} {
		testAdd(t, rank)
	}
}

func testAdd(t *testing.T, rank int) {
	const out, in = 5, 7
	w, b, a := make([]float32, out*in), make([]float32, out*rank), make([]float32, rank*in)
	for i, x := range [][]float32{w, b, a} {
		for k := range x {
			x[k] = float32(math.Sin(float64(1 + 10*i + k)))
		}
	}
	want := make([]float64, out*in)
	for o := range out {
		for i := range in {
			want[o*in+i] = float64(w[o*in+i])
			for r := range rank {
				want[o*in+i] += 0.5 * float64(b[o*rank+r]) * float64(a[r*in+i])
			}
		}
	}
	Add(w, b, a, rank, 0.5)
	for i := range want {
		if math.Abs(float64(w[i])-want[i]) > 1e-6 {
			t.Errorf("element %d is %g, want %g", i, w[i], want[i])
		}
	}
	Add(nil, nil, nil, 0, 1)
}

func TestScale(t *testing.T) {
	if plain, rs := Scale(8, 16, false), Scale(8, 16, true); plain != 0.5 || rs != 2 {
		t.Errorf("%g and %g", plain, rs)
	}
}
