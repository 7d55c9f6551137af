package colbert

import (
	"fmt"
	"slices"

	"rag-retrieval-go/models/prompt"
)

// TokenRole says what a token is there for.
type TokenRole string

// The roles of tokens.
const (
	TextToken      TokenRole = "text"
	PromptToken    TokenRole = "prompt"    // of the model's prompt, before the text or after it
	SpecialToken   TokenRole = "special"   // such as [CLS]
	MarkerToken    TokenRole = "marker"    // tells queries from passages, such as [Q]
	ExpansionToken TokenRole = "expansion" // a mask token that fills a query up
)

// Token is a token of a text as the model reads it.
type Token struct {
	ID   int64
	Name string // as the vocabulary has it, such as "[CLS]" or "##ing"
	Role TokenRole
	// Start and End are the bytes of the text that a text token stands for. Other tokens have none: both are 0.
	Start, End int
	Counted    bool // its vector counts in MaxSim
}

// Tokens are the tokens that the model reads of a text of at most maxLen tokens, in the order of its encoding. cut says that the text
// has more of them.
func (m *Model) Tokens(x prompt.Text, maxLen int) (tokens []Token, cut bool, err error) {
	row, err := m.row(x, maxLen)
	if err != nil {
		return nil, false, err
	}
	marker, room := m.marker(x.Query, maxLen)
	framed := m.Formats.Around(x)
	placed, cut := m.Tokenizer.EncodeTokens(framed.String(), room)
	from, to := len(framed.Before), len(framed.Before)+len(framed.Text)
	for _, p := range placed {
		t := Token{ID: p.ID, Role: TextToken, Start: max(p.Start, from) - from, End: min(p.End, to) - from}
		switch {
		case p.Special:
			t = Token{ID: p.ID, Role: SpecialToken}
		case from > 0 && p.End <= from || framed.After != "" && p.Start >= to:
			t = Token{ID: p.ID, Role: PromptToken}
		}
		tokens = append(tokens, t)
	}
	if marker > 0 {
		tokens = slices.Insert(tokens, m.markerPlace(), Token{ID: marker, Role: MarkerToken})
	}
	for len(tokens) < len(row.IDs) {
		tokens = append(tokens, Token{ID: m.Rules.Mask, Role: ExpansionToken})
	}
	for i := range tokens {
		if i >= len(row.IDs) || tokens[i].ID != row.IDs[i] {
			return nil, false, fmt.Errorf("%s: its tokens with their places differ from those that the model reads", x)
		}
		tokens[i].Name = m.Tokenizer.Name(tokens[i].ID)
	}
	for _, i := range m.counted(row, !x.Query) {
		tokens[i].Counted = true
	}
	return tokens, cut, nil
}

// Tokens are those of Model.Tokens.
func (s *Scorer) Tokens(x prompt.Text, maxLen int) (tokens []Token, cut bool, err error) {
	return s.m.Tokens(x, maxLen)
}
