package finetune

import (
	"fmt"
	"strings"
)

// planned is how many steps' batches are looked at for a plan.
const planned = 4

// activations are the values that a token keeps in each layer for the backward pass, in units of the hidden size, as
// measured on all-MiniLM-L6-v2; attention's own are not among them.
const activations = 33

// Plan says what the run would do: rows, steps, tokens and about how much memory.
func (r *Run) Plan() (string, error) {
	var b strings.Builder
	tokens, longest, batches := 0, 0, 0
	for step := range min(planned, r.Steps) {
		micro, err := r.source(step)
		if err != nil {
			return "", err
		}
		for _, m := range micro {
			tokens, longest, batches = tokens+m.Tokens, max(longest, m.Tokens), batches+1
		}
	}
	parameters := r.Set.Layout.Total
	enc := r.task.Encoder()
	memory := 16*parameters + 4*activations*enc.HiddenSize*int64(enc.NumHiddenLayers)*int64(longest)
	fmt.Fprintf(&b, "%d examples, %d steps of %d × %d, %.1f M parameters\n", r.Data.Len(), r.Steps, r.Config.GradientAccumulationSteps,
		r.Config.BatchSize, float64(parameters)/1e6)
	fmt.Fprintf(&b, "%d tokens in a micro-batch on average, %d at most, of the first %d\n", tokens/batches, longest, batches)
	fmt.Fprintf(&b, "about %.1f GB of memory, and more with long texts\n", float64(memory)/1e9)
	if r.validation != nil {
		fmt.Fprintf(&b, "%d queries for validation\n", len(r.validation.samples))
	}
	return b.String(), nil
}
