package optim_test

import (
	"testing"

	"rag-retrieval-go/ortrain/optim"
)

// The scale halves at an overflow, doubles after 2,000 steps without one, and ends at 1.
func TestLossScaler(t *testing.T) {
	var none *optim.LossScaler
	none.Stepped()
	if none.Factor() != 1 || none.Overflowed() || none.SkippedSteps() != 0 {
		t.Error("no scaler scales")
	}
	s := optim.NewLossScaler()
	steps := func(n int) {
		for range n {
			s.Stepped()
		}
	}
	want := func(scale float64, skipped int) {
		t.Helper()
		if s.Factor() != scale || s.SkippedSteps() != skipped {
			t.Errorf("scale %g after %d skipped steps, want %g after %d", s.Factor(), s.SkippedSteps(), scale, skipped)
		}
	}
	steps(1999)
	want(65536, 0)
	steps(1)
	want(131072, 0)
	steps(1500)
	if !s.Overflowed() {
		t.Error("gave up at a large scale")
	}
	want(65536, 1)
	steps(1999) // counted anew
	want(65536, 1)
	for s.Overflowed() {
	}
	want(1, 17)
}
