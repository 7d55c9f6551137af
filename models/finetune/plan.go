package finetune

import (
	"fmt"
	"strings"
)

// plannedSteps is the number of steps whose batches Plan makes.
const plannedSteps = 4

// activationsPerToken is the number of values kept for each token and layer until the backward pass, as a multiple of the
// hidden size. It was measured on all-MiniLM-L6-v2, without the attention scores.
const activationsPerToken = 33

// productsPerToken is activationsPerToken where adapters are trained: norms, activations and rotations are computed again
// (encoder.Training.KeepProducts). It was measured on the same model, with adapters of rank 8 on all layers: 185 kB for a token of its
// six layers, between 988 and 7834 tokens of short texts.
const productsPerToken = 20

// Plan describes the run in a few lines: the model and what of its config.json was understood, examples, steps, tokens and an
// estimate of memory.
func (r *Run) Plan() (string, error) {
	var b strings.Builder
	tokens, longest, batches := 0, 0, 0
	for step := range min(plannedSteps, r.Steps) {
		micro, err := r.source(step)
		if err != nil {
			return "", err
		}
		for _, m := range micro {
			tokens, longest, batches = tokens+m.Tokens, max(longest, m.Tokens), batches+1
		}
	}
	l := r.Set.Layout
	b.WriteString(r.task.Encoder().Explain())
	fmt.Fprintf(&b, "%s: %s\n", r.Config.Kind, r.task.Describe())
	ranks := ""
	if r.comm.Size() > 1 {
		ranks = fmt.Sprintf("%d ranks × ", r.comm.Size())
	}
	fmt.Fprintf(&b, "%d examples, %d steps of %s%d × %d, %s\n", r.Data.Len(), r.Steps, ranks,
		r.Config.GradientAccumulationSteps, r.Config.BatchSize, parameters(l))
	fmt.Fprintf(&b, "%s\n", r.DescribePrecision())
	fmt.Fprintf(&b, "%d tokens in a micro-batch on average, %d at most, of the first %d\n", tokens/batches, longest, batches)
	fmt.Fprintf(&b, "about %.1f GB of memory, and more with long texts\n", float64(r.memory(longest))/1e9)
	if r.validation != nil {
		fmt.Fprintf(&b, "%d queries for validation\n", len(r.validation.samples))
	}
	return b.String(), nil
}

// memory estimates the bytes that a step needs whose largest micro-batch has that many tokens.
func (r *Run) memory(tokens int) int64 {
	enc := r.task.Encoder()
	kept := activationsPerToken * int64(enc.NumHiddenLayers) // hidden sizes of a token
	if enc.LoRA != nil {
		kept = productsPerToken * int64(enc.NumHiddenLayers)
	}
	if r.Config.GradientCheckpointing {
		kept = activationsPerToken + int64(enc.NumHiddenLayers) // of one layer, and each layer's input
	}
	if chunk := r.Config.TokensPerChunk(false); chunk > 0 {
		tokens = min(tokens, chunk)
	}
	l := r.Set.Layout
	return 4*l.Total + 12*l.Trained + 4*enc.HiddenSize*kept*int64(tokens)
}
