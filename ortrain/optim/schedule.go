package optim

import (
	"fmt"
	"math"
)

// Schedule is the learning-rate schedule of a run: a linear warm-up, some steps at the peak, then a decay to zero.
type Schedule struct {
	Kind   string  // of the decay: one of Kinds
	Peak   float64 // the highest learning rate
	Warmup int     // steps of the warm-up
	Stable int     // steps at the peak
	Total  int     // steps of the whole run
}

// Kinds lists the kinds of decay. "constant" does not decay.
var Kinds = []string{"cosine", "linear", "constant"}

// Validate checks kind and peak.
func (s Schedule) Validate() error {
	switch s.Kind {
	case "cosine", "linear", "constant":
	default:
		return fmt.Errorf("lr_schedule is %q, want one of %v", s.Kind, Kinds)
	}
	if !(s.Peak > 0) || math.IsInf(s.Peak, 0) {
		return fmt.Errorf("lr is %g, want a positive number", s.Peak)
	}
	return nil
}

// At returns the learning rate of step t, counted from 0. It equals the schedules of Hugging Face transformers.
func (s Schedule) At(t int) float64 {
	if t < s.Warmup {
		return s.Peak * float64(t) / float64(max(1, s.Warmup))
	}
	begin := s.Warmup + s.Stable
	progress := max(0, float64(t-begin)/float64(max(1, s.Total-begin)))
	switch s.Kind {
	case "cosine":
		return s.Peak * max(0, 0.5*(1+math.Cos(math.Pi*progress)))
	case "linear":
		return s.Peak * max(0, 1-progress)
	}
	return s.Peak
}
