package colbert

import "fmt"

// Describe says in a line how the tokens' states become vectors.
func (m *Model) Describe() string {
	out := fmt.Sprintf("each token's state projected to %d numbers", m.Dim)
	if m.fresh() {
		out += " by a new layer"
	}
	if m.Rules.Expansion > 0 {
		out += fmt.Sprintf("; queries are filled up to %d tokens", m.Rules.Expansion)
	}
	return out
}

// Describe says what the model makes of the encoder's states.
func (t *Task) Describe() string { return t.m.Describe() }
