package tokenizer

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// wordPiece tokenizes for BERT's tokenizers what needs no knowledge of Unicode: words of ASCII letters and digits, ASCII
// punctuation, Chinese characters and their usual punctuation. In training, the library takes more time of the processors for
// these than all else outside the graph together, and the processors are the graph's.
//
// BERT's steps work word by word, and white space always ends a word. So a text may be cut at white space: parts with any other
// character, such as an accent, go to the library, and the tokens of all parts one after the other are those of the text.
//
//	the naïve approach
//	--- ````` --------
//	here, library, here
type wordPiece struct {
	first, rest  map[string]uint32 // the vocabulary: entries that begin a word, and those that go on with one, without "##"
	longest      int               // bytes of the longest entry
	unknown      uint32
	maxChars     int // a word with more characters is unknown
	lower        bool
	chinese      bool     // each Chinese character is a word
	addedContent []string // of added tokens: a text with one of them is the library's
}

// The classes of characters.
const (
	otherChar = iota // only the library knows
	spaceChar
	letterChar // or a digit
	singleChar // a word by itself
)

// asciiClasses has the class of each ASCII character. Control characters but tab and newlines are otherChar: BERT drops them.
var asciiClasses = func() (classes [utf8.RuneSelf]byte) {
	for c := byte(' '); c < 0x7f; c++ {
		classes[c] = singleChar // punctuation
	}
	for _, r := range []string{"09", "AZ", "az"} {
		for c := r[0]; c <= r[1]; c++ {
			classes[c] = letterChar
		}
	}
	for _, c := range " \t\n\r" {
		classes[c] = spaceChar
	}
	return classes
}()

// newWordPiece returns nil unless a tokenizer.json has exactly BERT's steps.
func newWordPiece(file map[string]json.RawMessage, v vocabulary) *wordPiece {
	var normalizer struct {
		Type      string
		CleanText bool `json:"clean_text"`
		Chinese   bool `json:"handle_chinese_chars"`
		Lowercase bool
	}
	var pre struct{ Type string }
	var model struct {
		Type     string
		Unknown  string `json:"unk_token"`
		Prefix   string `json:"continuing_subword_prefix"`
		MaxChars int    `json:"max_input_chars_per_word"`
	}
	for key, to := range map[string]any{"normalizer": &normalizer, "pre_tokenizer": &pre, "model": &model} {
		if raw := file[key]; raw == nil || json.Unmarshal(raw, to) != nil {
			return nil
		}
	}
	unknown, ok := v.Words[model.Unknown]
	if !ok || normalizer.Type != "BertNormalizer" || !normalizer.CleanText || pre.Type != "BertPreTokenizer" || model.Type != "WordPiece" ||
		model.Prefix == "" || model.MaxChars <= 0 {
		return nil
	}
	w := &wordPiece{first: map[string]uint32{}, rest: map[string]uint32{}, unknown: uint32(unknown), maxChars: model.MaxChars,
		lower: normalizer.Lowercase, chinese: normalizer.Chinese}
	for entry, id := range v.Words {
		w.longest = max(w.longest, len(entry))
		w.first[entry] = uint32(id) // also an entry with the prefix: no word of ASCII letters is one
		if after, ok := strings.CutPrefix(entry, model.Prefix); ok {
			w.rest[after] = uint32(id)
		}
	}
	for _, a := range v.Added {
		if a.Normalized { // it is looked for after steps that are not done here
			return nil
		}
		w.addedContent = append(w.addedContent, a.Content)
	}
	return w
}

// tokens returns at least the first room tokens of a text, or all if it has fewer. library does the same for the parts that are not
// done here.
func (w *wordPiece) tokens(text string, room int, library func(part string, room int) []uint32) (ids []uint32) {
	for _, a := range w.addedContent {
		if strings.Contains(text, a) {
			return library(text, room)
		}
	}
	for len(text) > 0 && len(ids) < room {
		var done int
		ids, done = w.appendSimple(ids, text, room)
		text = text[done:]
		if len(text) > 0 && len(ids) < room {
			n := w.otherPart(text, bytesPerToken*(room-len(ids)+1))
			ids = append(ids, library(text[:n], room-len(ids))...)
			text = text[n:]
		}
	}
	return ids
}

// appendSimple appends the tokens of a text until there are room of them, or up to the first part that has a character of the class
// otherChar. done is where it stopped.
func (w *wordPiece) appendSimple(ids []uint32, text string, room int) (_ []uint32, done int) {
	before := len(ids) // without those of the part that begins at done
	for at := 0; at < len(text); {
		class, n := w.class(text[at:])
		settled := len(ids) // such a character can change no other word than the one that it stands at
		switch class {
		case otherChar:
			return ids[:before], done
		case spaceChar:
			before, done = len(ids), at+n
		case singleChar:
			ids = w.appendWord(ids, text[at:at+n])
		case letterChar:
			for at+n < len(text) && text[at+n] < utf8.RuneSelf && asciiClasses[text[at+n]] == letterChar {
				n++
			}
			ids = w.appendWord(ids, text[at:at+n])
		}
		if at += n; settled >= room {
			return ids, at
		}
	}
	return ids, len(text)
}

// joined is the most bytes between two parts for the library that become its too: a call costs more than some words.
const joined = 64

// otherPart returns the length of the part for the library that a text begins with. It ends before white space, or with the text if
// it is longer than limit.
func (w *wordPiece) otherPart(text string, limit int) int {
	last, end := -1, -1 // where the last character of the library's ended, and where white space came after it
	for at := 0; at < len(text); {
		switch {
		case end >= 0 && at >= last+joined:
			return end
		case at > limit:
			return len(text)
		}
		class, n := w.class(text[at:])
		switch {
		case class == otherChar:
			last, end = at+n, -1
		case class == spaceChar && last >= 0 && end < 0:
			end = at
		}
		at += n
	}
	if end >= 0 {
		return end
	}
	return len(text)
}

// class returns the class of a text's first character, and its length in bytes.
func (w *wordPiece) class(text string) (class byte, n int) {
	if c := text[0]; c < utf8.RuneSelf {
		return asciiClasses[c], 1
	}
	r, n := utf8.DecodeRuneInString(text)
	switch r {
	case '，', '。', '、', '；', '：', '？', '！', '（', '）', '《', '》', '「', '」', '『', '』', '【', '】', '“', '”', '‘', '’', '—', '…', '·':
		return singleChar, n // punctuation in all versions of Unicode, and no step changes it
	}
	if w.chinese && (r >= 0x4e00 && r <= 0x9fa5 || r >= 0x3400 && r <= 0x4db5) { // in all versions of Unicode
		return singleChar, n
	}
	return otherChar, n
}

// appendWord appends the tokens of a word: the longest entry that it begins with, then the longest that what is left begins with, and
// so on. If nothing fits, the whole word is unknown. Source: huggingface/tokenizers, WordPiece::tokenize.
func (w *wordPiece) appendWord(ids []uint32, word string) []uint32 {
	if len(word) > w.maxChars && utf8.RuneCountInString(word) > w.maxChars {
		return append(ids, w.unknown)
	}
	if w.lower {
		word = strings.ToLower(word) // ASCII letters; no other character here has a lower case
	}
	before, entries := len(ids), w.first
	for len(word) > 0 {
		n := min(len(word), w.longest)
		id, ok := entries[word[:n]]
		for ; !ok && n > 1; id, ok = entries[word[:n]] {
			n--
		}
		if !ok {
			return append(ids[:before], w.unknown)
		}
		ids, word, entries = append(ids, id), word[n:], w.rest
	}
	return ids
}
