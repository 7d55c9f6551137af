package ortrain

import "fmt"

func (t *Trainer) overflow(s Step, batches []*Batch) error {
	return fmt.Errorf("step %d: the loss is %g and the gradient's norm %g; no parameter was changed (a lower lr may help)",
		s.Step, s.Loss, s.GradNorm)
}
