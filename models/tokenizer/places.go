package tokenizer

import (
	"unicode/utf8"

	"github.com/daulet/tokenizers"
)

// EncodeTokens returns the tokens whose ids Encode returns, with their places in the text. A tokenizer that works on bytes may give
// several tokens the same character, or parts of one. cut says that the text has more tokens than that.
func (t *Tokenizer) EncodeTokens(text string, maxLength int) (tokens []Token, cut bool) {
	room := max(0, maxLength-t.single.specialTokens())
	e := t.prefixWith(sanitize(text), room+1, tokenizers.WithReturnOffsets())
	n, place := min(room, len(e.IDs)), places(text)
	for _, p := range t.single {
		for _, id := range p.ids {
			tokens = append(tokens, Token{ID: id, Text: t.Name(id), Special: true})
		}
		if p.text != 'A' {
			continue
		}
		for i, id := range e.IDs[:n] {
			from := place(e.Offsets[i][0])
			to := max(from, place(e.Offsets[i][1]))
			tokens = append(tokens, Token{ID: int64(id), Text: text[from:to], Start: from, End: to})
		}
	}
	return tokens, len(e.IDs) > room
}

// Name is a token as the vocabulary has it, such as "[CLS]" or "##ing".
func (t *Tokenizer) Name(id int64) string { return t.t.Decode([]uint32{uint32(id)}, false) }

// places gives for each byte of what sanitize makes of a text the byte of the text.
func places(text string) func(clean uint) int {
	if sanitize(text) == text {
		return func(clean uint) int { return min(int(clean), len(text)) }
	}
	var at []int
	for i := 0; i < len(text); {
		from := i
		if r, n := utf8.DecodeRuneInString(text[i:]); r != 0 && !invalid(r, n) {
			for i += n; from < i; from++ {
				at = append(at, from)
			}
			continue
		}
		if i++; text[from] != 0 { // a run of bytes that are no UTF-8 becomes one U+FFFD
			for i < len(text) && invalid(utf8.DecodeRuneInString(text[i:])) {
				i++
			}
		}
		at = append(at, from, from, from) // U+FFFD has three bytes
	}
	at = append(at, len(text))
	return func(clean uint) int { return at[min(int(clean), len(at)-1)] }
}

// invalid says that what utf8.DecodeRune returned is no character.
func invalid(r rune, width int) bool { return r == utf8.RuneError && width == 1 }
