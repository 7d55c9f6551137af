package ortrain

import (
	"errors"
	"fmt"
	"slices"
)

// ErrUnchanged is the error of a step that ran out of memory before any parameter changed. The run can be saved and
// resumed with other settings.
var ErrUnchanged = errors.New("no parameter was changed")

// outOfMemoryError names the batch that did not fit into memory, and the settings that may help.
func (t *Trainer) outOfMemoryError(s Step, batches []*Batch, err error) error {
	b := largestPass(batches)
	fits, known := b.Tokens/2, ""
	if t.mostTokens > 0 {
		fits, known = min(fits, t.mostTokens), fmt.Sprintf("; up to %d tokens fitted", t.mostTokens)
	}
	longest := slices.Max(append([]int{0}, b.Lengths...))
	return fmt.Errorf("step %d, which computes %d tokens at once, the longest text with %d: %w%s: set chunk_tokens to %d or less, or gradient_checkpointing, or lower batch_size or the maximal lengths; %w",
		s.Step, b.Tokens, longest, err, known, max(fits, longest), ErrUnchanged)
}

// largestPass returns the micro-batch, or the chunk of one, with the most tokens. Only one of them is computed at a time.
func largestPass(batches []*Batch) *Batch {
	out := &Batch{}
	for _, b := range batches {
		if len(b.Chunks) > 0 {
			b = largestPass(b.Chunks)
		}
		if b.Tokens > out.Tokens {
			out = b
		}
	}
	return out
}
