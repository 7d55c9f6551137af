package optim

import (
	"fmt"
	"math"
)

// Schedule is a learning rate over a run of Total steps: a linear warm-up, a stretch at the peak, then a decay to zero.
type Schedule struct {
	Kind   string // of the decay: "cosine", "linear" or "constant"
	Peak   float64
	Warmup int // steps
	Stable int // steps at the peak
	Total  int
}

// Kinds of decay.
var Kinds = []string{"cosine", "linear", "constant"}

// Validate checks the settings.
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

// At is the learning rate of step t, counted from 0, as transformers' schedules give it.
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
