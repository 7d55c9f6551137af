package ortrain

import (
	"errors"
	"fmt"
	"slices"
)

// ErrUnchanged is the error of a step that ended before any parameter changed, for want of memory: the run can be saved as
// it is and go on with other settings.
var ErrUnchanged = errors.New("no parameter was changed")

// outOfMemory says which batch memory was not enough for, and what may be.
func (t *Trainer) outOfMemory(s Step, batches []*Batch, err error) error {
	b := largest(batches)
	fits, known := b.Tokens/2, ""
	if t.fitted > 0 {
		fits, known = min(fits, t.fitted), fmt.Sprintf("; up to %d tokens fitted", t.fitted)
	}
	longest := slices.Max(append([]int{0}, b.Lengths...))
	return fmt.Errorf("step %d, where %d tokens are computed at once, the longest text of %d: %w%s: set chunk_tokens to %d or less, or gradient_checkpointing, or lower batch_size or the maximal lengths; %w",
		s.Step, b.Tokens, longest, err, known, max(fits, longest), ErrUnchanged)
}

// largest is what has the most tokens of all that is computed at once: the micro-batches, or their chunks.
func largest(batches []*Batch) *Batch {
	out := &Batch{}
	for _, b := range batches {
		if len(b.Chunks) > 0 {
			b = largest(b.Chunks)
		}
		if b.Tokens > out.Tokens {
			out = b
		}
	}
	return out
}
