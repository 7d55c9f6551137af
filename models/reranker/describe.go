package reranker

import (
	"fmt"
	"strings"
)

// Describe says in a line how the tokens' states become a score, and how a pair is laid out where the tokenizer does not say it.
func (m *Model) Describe() string {
	h := m.head
	out := fmt.Sprintf("%s: %s", h.class, map[pooling]string{
		firstToken: "the first token's state", meanToken: "the mean of the tokens' states", lastToken: "the last token's state",
	}[h.pool])
	rows := "the word embeddings"
	if h.untied {
		rows = lmHead
	}
	switch {
	case len(h.tokens) == 2:
		out += fmt.Sprintf("; the logit of token %d less that of token %d, by their rows of %s", h.tokens[0], h.tokens[1], rows)
	case len(h.tokens) == 1:
		out += fmt.Sprintf("; the logit of token %d, by its row of %s", h.tokens[0], rows)
	default:
		var layers []string
		for _, name := range []string{h.dense, h.norm, h.out} {
			if name != "" {
				layers = append(layers, name)
			}
		}
		out += " through " + strings.Join(layers, ", ")
	}
	if f := m.Formats; f.Joined() {
		out += fmt.Sprintf("; a pair is %q, %q, %q, %q", f.Query, f.Seq, f.Document, f.SpecialToken)
	}
	return out
}

// Describe says what the model makes of the encoder's states.
func (t *Task) Describe() string { return t.m.Describe() }
