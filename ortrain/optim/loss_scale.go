package optim

// LossScaler chooses the factor of a float16 step's loss, large enough that small gradients do not vanish: it grows after
// GrowthInterval steps without overflow, and shrinks at each one, whose step is skipped. A nil scaler scales by 1.
// Source: Micikevicius et al. 2017; the constants are those of PyTorch's GradScaler.
type LossScaler struct {
	Scale   float64 `json:"scale"`
	Good    int     `json:"good"`    // steps since the scale last changed
	Skipped int     `json:"skipped"` // steps in all
}

const (
	firstScale     = 1 << 16
	growthInterval = 2000
)

// NewLossScaler starts at PyTorch's first scale.
func NewLossScaler() *LossScaler { return &LossScaler{Scale: firstScale} }

// Factor is what the loss is multiplied by.
func (s *LossScaler) Factor() float64 {
	if s == nil {
		return 1
	}
	return s.Scale
}

// Overflowed takes note of a step whose gradients are not finite, and says whether a smaller scale may help.
func (s *LossScaler) Overflowed() bool {
	if s == nil || s.Scale <= 1 {
		return false
	}
	s.Scale, s.Good = s.Scale/2, 0
	s.Skipped++
	return true
}

// Stepped takes note of a step that was done.
func (s *LossScaler) Stepped() {
	if s == nil {
		return
	}
	if s.Good++; s.Good == growthInterval {
		s.Scale, s.Good = s.Scale*2, 0
	}
}

// SkippedSteps counts the steps that changed no parameter.
func (s *LossScaler) SkippedSteps() int {
	if s == nil {
		return 0
	}
	return s.Skipped
}
