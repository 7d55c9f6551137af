package optim_test

import (
	"math"
	"testing"

	"rag-retrieval-go/ortrain/optim"
)

// Values of transformers' get_cosine_schedule_with_warmup and get_linear_schedule_with_warmup.
func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		kind string
		step int
		want float64
	}{
		{"cosine", 0, 0}, {"cosine", 1, 0.5}, {"cosine", 2, 1}, {"cosine", 6, 0.5}, {"cosine", 10, 0},
		{"linear", 1, 0.5}, {"linear", 2, 1}, {"linear", 4, 0.75}, {"linear", 10, 0}, {"linear", 11, 0},
		{"constant", 1, 0.5}, {"constant", 9, 1},
	} {
		s := optim.Schedule{Kind: c.kind, Peak: 2, Warmup: 2, Total: 10}
		if got := s.At(c.step); math.Abs(got-2*c.want) > 1e-12 {
			t.Errorf("%s at %d: %g, want %g", c.kind, c.step, got, 2*c.want)
		}
	}
	if got := (optim.Schedule{Kind: "linear", Peak: 1, Total: 4}).At(0); got != 1 {
		t.Errorf("without a warm-up: %g", got)
	}
	stable := optim.Schedule{Kind: "linear", Peak: 1, Warmup: 2, Stable: 4, Total: 10}
	for step, want := range map[int]float64{1: 0.5, 2: 1, 6: 1, 8: 0.5, 10: 0} {
		if got := stable.At(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("with a stable stretch at %d: %g, want %g", step, got, want)
		}
	}
	for _, bad := range []optim.Schedule{{Kind: "steps", Peak: 1}, {Kind: "linear"}, {Kind: "linear", Peak: math.Inf(1)}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}
