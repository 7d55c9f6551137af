package encoder

import (
	"fmt"
	"strconv"
	"strings"
)

// Explain says what the encoder computes, which keys of its config.json were understood, and which were ignored, in lines.
func (c Config) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "architecture: %s\n", c.Describe())
	fmt.Fprintf(&b, "config.json, understood: %s\n", strings.Join(c.Keys.Understood(), ", "))
	for _, k := range c.Keys.Ignored() {
		fmt.Fprintf(&b, "config.json, ignored: %s=%s: %s\n", k.Key, k.Value, k.Why)
	}
	return b.String()
}

// Describe says in a line what the encoder computes: its architecture, sizes and blocks.
func (c Config) Describe() string {
	x := c.Blocks
	heads := fmt.Sprintf("%d heads of %d", c.NumAttentionHeads, c.HeadSize())
	if kv := c.keyValueHeads(); kv != c.NumAttentionHeads {
		heads += fmt.Sprintf(" over %d key-value heads", kv)
	}
	parts := []string{
		fmt.Sprintf("%s: %d layers, hidden size %d, %s, intermediate size %d", c.ModelType, c.NumHiddenLayers, c.HiddenSize, heads, c.IntermediateSize),
		fmt.Sprintf("%s, at most %d tokens", c.describePositions(), c.MaxLength()),
		c.describeAttention(),
		c.describeNorms(),
	}
	activation := c.HiddenAct
	if x.Gated {
		activation += " with a gate"
	}
	vocabulary := fmt.Sprintf("vocabulary %d", c.VocabSize)
	if c.EmbeddingSize != c.HiddenSize {
		vocabulary += fmt.Sprintf(" in tables of width %d", c.EmbeddingSize)
	}
	if c.HasTypes() {
		vocabulary += fmt.Sprintf(", %d token types", c.TypeVocabSize)
	}
	parts = append(parts, activation, vocabulary)
	if c.HiddenDropout > 0 || c.AttentionDropout > 0 || c.ActivationDropout > 0 {
		parts = append(parts, fmt.Sprintf("dropout %g, of attention %g", c.HiddenDropout, c.AttentionDropout))
	}
	return strings.Join(parts, "; ")
}

func (c Config) describePositions() string {
	if c.Blocks.Rotary == nil {
		return "learned positions"
	}
	var kinds []Rotation
	counts := map[Rotation]int{}
	for _, r := range c.Blocks.Rotary {
		if counts[r]++; counts[r] == 1 {
			kinds = append(kinds, r)
		}
	}
	var out []string
	for _, r := range kinds {
		s := "base " + strconv.FormatFloat(r.Base, 'f', -1, 64)
		if r.Scaling != "" {
			s += fmt.Sprintf(" (%s scaling by %g)", r.Scaling, r.Factor)
		}
		if len(kinds) > 1 {
			s += fmt.Sprintf(" in %d of %d layers", counts[r], c.NumHiddenLayers)
		}
		out = append(out, s)
	}
	return "rotary positions of " + strings.Join(out, ", ")
}

func (c Config) describeAttention() string {
	out := "attention to both sides"
	if c.Blocks.Causal {
		out = "causal attention"
	}
	layers, window := 0, int64(0)
	for _, w := range c.Blocks.Windows {
		if w != NoWindow {
			layers, window = layers+1, w // an architecture has one window
		}
	}
	if layers == 0 {
		return out
	}
	side := "to either side"
	if c.Blocks.Causal {
		side = "back"
	}
	return fmt.Sprintf("%s, in %d of %d layers at most %d tokens %s", out, layers, c.NumHiddenLayers, window, side)
}

func (c Config) describeNorms() string {
	name, place := "LayerNorm", "after"
	if c.Blocks.RMSNorm {
		name = "RMSNorm"
	}
	if c.Blocks.PreNorm {
		place = "before"
	}
	out := fmt.Sprintf("%s (eps %g) %s each block", name, c.LayerNormEps, place)
	if c.Blocks.BranchNorm {
		out += " and behind it"
	}
	if c.Blocks.QueryKeyNorm {
		out += ", and of queries and keys"
	}
	return out
}
