package tokenizer

import "math"

// Remembered keeps the tokens of texts that many pairs begin with, so that each text is tokenized once and not for every pair. The zero
// value is empty, and a nil one remembers nothing. It is for one tokenizer, and for one goroutine at a time.
type Remembered struct{ texts map[string]beginning }

// beginning is the first tokens of a text: room of them, or all if there are fewer.
type beginning struct {
	ids  []uint32
	room int
}

// tokens is Tokenizer.tokens.
func (r *Remembered) tokens(t *Tokenizer, text string, room int) []uint32 {
	if r == nil {
		return t.tokens(text, room)
	}
	b, ok := r.texts[text]
	if !ok || b.room < room {
		b = beginning{t.tokens(text, room), room}
		if len(b.ids) < room {
			b.room = math.MaxInt // that is the whole text
		}
		if r.texts == nil {
			r.texts = map[string]beginning{}
		}
		r.texts[text] = b
	}
	n := min(room, len(b.ids))
	return b.ids[:n:n]
}
