package ortrain

import (
	"math"
	"testing"
)

// The rank that waits least says what a transfer takes.
func TestCollectiveTime(t *testing.T) {
	var x Trainer
	x.addCollectiveTime([]float64{0.3, 0.1})
	x.addCollectiveTime([]float64{0.2, 0.6})
	if math.Abs(x.transfer-0.3) > 1e-12 || math.Abs(x.waiting-0.3) > 1e-12 {
		t.Errorf("transfer %g, waiting %g, want 0.3 each", x.transfer, x.waiting)
	}
}
