package embedding

import "fmt"

// Describe says in a line how the tokens' states become a vector.
func (m *Model) Describe() string {
	out := map[Pooling]string{Mean: "the mean of the tokens' states", CLS: "the first token's state", Last: "the last token's state"}[m.Config.Pooling]
	for _, d := range m.Config.Dense {
		out += fmt.Sprintf(", a dense layer from %d to %d", d.In, d.Out)
	}
	if m.Config.Normalize {
		out += ", normalized"
	}
	return fmt.Sprintf("%s; %d numbers", out, m.Width())
}

// Describe says what the model makes of the encoder's states.
func (t *Task) Describe() string { return t.m.Describe() }
