package optim

// LossScaler chooses the loss scale of float16 training: a factor that keeps small gradients from vanishing. The scale
// doubles after 2,000 steps without overflow. A step whose gradients overflow is skipped and halves the scale. A nil
// *LossScaler scales by 1. Source: Micikevicius et al. 2017; the constants equal those of PyTorch's GradScaler.
type LossScaler struct {
	Scale   float64 `json:"scale"`
	Good    int     `json:"good"`    // steps without overflow since the scale last changed
	Skipped int     `json:"skipped"` // skipped steps of the whole run
}

const (
	firstScale     = 1 << 16
	growthInterval = 2000
)

// NewLossScaler returns a scaler that starts at 65,536, as PyTorch does.
func NewLossScaler() *LossScaler { return &LossScaler{Scale: firstScale} }

// Factor returns the current loss scale.
func (s *LossScaler) Factor() float64 {
	if s == nil {
		return 1
	}
	return s.Scale
}

// Overflowed records a step whose gradients are not finite, and halves the scale. It returns false if the scale is 1
// already: a smaller scale does not help then.
func (s *LossScaler) Overflowed() bool {
	if s == nil || s.Scale <= 1 {
		return false
	}
	s.Scale, s.Good = s.Scale/2, 0
	s.Skipped++
	return true
}

// Stepped records a step without overflow.
func (s *LossScaler) Stepped() {
	if s == nil {
		return
	}
	if s.Good++; s.Good == growthInterval {
		s.Scale, s.Good = s.Scale*2, 0
	}
}

// SkippedSteps returns the number of steps that overflowed and so changed no parameter.
func (s *LossScaler) SkippedSteps() int {
	if s == nil {
		return 0
	}
	return s.Skipped
}
