package tokenizer

import (
	"math"

	"github.com/daulet/tokenizers"
)

// Token is a token of a text.
type Token struct {
	ID         int64
	Text       string // as it stands in the text; a special token's own name
	Special    bool   // it is not of the text: the tokenizer adds it
	Start, End int    // its place in the text, in bytes; 0 for a special token
}

// Tokenize gives the tokens of a whole text, with the special tokens that stand around it or without them. It is for people to
// look at: models read Encode's.
func (t *Tokenizer) Tokenize(text string, special bool) []Token {
	e := t.t.EncodeWithOptions(sanitize(text), special, tokenizers.WithReturnAllAttributes())
	place := places(text)
	out := make([]Token, len(e.IDs))
	for i, id := range e.IDs {
		x := Token{ID: int64(id), Special: e.SpecialTokensMask[i] == 1}
		if x.Special {
			x.Text = e.Tokens[i]
		} else {
			x.Start = place(e.Offsets[i][0])
			x.End = max(x.Start, place(e.Offsets[i][1]))
			x.Text = text[x.Start:x.End]
		}
		out[i] = x
	}
	return out
}

// Cut gives the beginning of a text that has at most n tokens, special tokens not counted. A shorter text stays as it is.
func (t *Tokenizer) Cut(text string, n int) string {
	clean := sanitize(text)
	e := t.prefixWith(clean, min(max(n, 0), math.MaxInt32)+1, tokenizers.WithReturnOffsets())
	switch {
	case len(e.IDs) <= n:
		return text
	case n <= 0:
		return ""
	}
	return clean[:min(int(e.Offsets[n-1][1]), len(clean))]
}

// EncodeEnd is Encode for the end of a text: one that is too long is cut at its beginning.
func (t *Tokenizer) EncodeEnd(text string, maxLength int) []int64 {
	room := max(0, maxLength-t.single.specialTokens())
	ids := t.tokens(text, math.MaxInt32)
	out, _ := t.single.fill(ids[max(0, len(ids)-room):], nil)
	return out
}

// LargestID is the largest token id of the vocabulary.
func (t *Tokenizer) LargestID() int64 { return t.largestID }
