package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/daulet/tokenizers"
)

// bytesPerToken is how many bytes of a long text are tokenized first for each wanted token. Real texts have 3 to 6 bytes for
// each token.
const bytesPerToken = 12

// prefix returns at least the first room tokens of a text, or all if it has fewer. Only the beginning of a long text is
// tokenized.
func (t *Tokenizer) prefix(text string, room int) []uint32 {
	return t.prefixWith(text, room).IDs
}

// prefixWith is prefix with what options ask for: nothing but offsets.
func (t *Tokenizer) prefixWith(text string, room int, options ...tokenizers.EncodeOption) tokenizers.Encoding {
	for n := bytesPerToken * (room + 1); n > 0 && n < len(text); n *= 4 {
		if e := t.encodeBeginning(text, n); len(e.IDs) >= room {
			return e
		}
	}
	return t.t.EncodeWithOptions(text, false, options...)
}

// encodeBeginning tokenizes the first n bytes of a text. It returns only tokens that do not depend on the bytes after them,
// or none if too few remain.
//
// The rest of the text can change the tokens of the last word in these n bytes. It can also change the white space before
// that word, because an added token with lstrip includes it. And a token can include the white space after a word: a
// byte-level tokenizer may have the token "!\n". So only tokens before the last two words, and the white space before them,
// are returned:
//
//	Is it "new"?  No.  It is ol|d.
//	                     ^ here
//
// The encoding has offsets.
func (t *Tokenizer) encodeBeginning(text string, n int) tokenizers.Encoding {
	for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	end := n
	for range 2 {
		if end = t.lastWordStart(text[:end]); end < n/2 { // most tokens would be thrown away
			return tokenizers.Encoding{}
		}
	}
	e := t.t.EncodeWithOptions(text[:n], false, tokenizers.WithReturnOffsets())
	count := 0
	for count < len(e.IDs) && e.Offsets[count][1] <= uint(end) {
		count++
	}
	return tokenizers.Encoding{IDs: e.IDs[:count], Offsets: e.Offsets[:count]}
}

// lastWordStart returns where the white space before the last word of a text begins, or 0 if there is none.
func (t *Tokenizer) lastWordStart(text string) int {
	text = strings.TrimRightFunc(text, unicode.IsSpace)
	for {
		last := strings.LastIndexAny(text, t.wordBreaks)
		if last < 0 {
			return 0
		}
		if start := len(strings.TrimRightFunc(text[:last], unicode.IsSpace)); start > 0 {
			return start
		}
		text = text[:last]
	}
}

// knownSplitPatterns are patterns of pre-tokenizers that separate words as encodeBeginning needs it: no match includes white
// space and the word after it, and a match depends only on the white space after it and one more character.
var knownSplitPatterns = []string{
	// Qwen2 and Qwen3
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// Qwen3.5
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// Llama 3, and OpenAI's cl100k
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// GPT-2
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
}

// pipelineStep is a normalizer or a pre-tokenizer of a tokenizer.json.
type pipelineStep struct {
	Type                       string
	Normalizers, Pretokenizers []pipelineStep
	UseRegex                   *bool `json:"use_regex"`
	Split                      *bool
	Pattern                    struct{ String, Regex string }
	Behavior                   string
	Invert                     bool
}

// setWordBreaks finds the characters at which this tokenizer always separates words. encodeBeginning relies on them. There
// are none if the file has an unknown step or one that may see several words at once; then long texts are tokenized whole.
func (t *Tokenizer) setWordBreaks(file map[string]json.RawMessage, added []addedToken) {
	var normalizer, pre pipelineStep
	for key, s := range map[string]*pipelineStep{"normalizer": &normalizer, "pre_tokenizer": &pre} {
		if raw := file[key]; raw != nil && json.Unmarshal(raw, s) != nil {
			return
		}
	}
	if !normalizer.worksWordByWord() || slices.ContainsFunc(added, addedToken.spansWords) {
		return
	}
	switch pre.splitsAt() {
	case "white space":
		t.wordBreaks = " \t\n"
	case "spaces": // tab and newline too, if the normalizer replaces them by spaces
		t.wordBreaks = " "
		ids := func(text string) []uint32 { return t.t.EncodeWithOptions(text, false).IDs }
		for _, c := range "\t\n" {
			if of := ids("a" + string(c) + "a"); slices.Equal(of, ids("a a")) && !slices.Equal(of, ids("aa")) {
				t.wordBreaks += string(c)
			}
		}
	}
}

// worksWordByWord says whether a normalizer's result for a word never depends on other words.
func (s pipelineStep) worksWordByWord() bool {
	switch s.Type {
	case "Sequence":
		return !slices.ContainsFunc(s.Normalizers, func(x pipelineStep) bool { return !x.worksWordByWord() })
	case "Replace":
		return s.Pattern.Regex == " {2,}" || len(s.Pattern.String) == 1
	}
	return slices.Contains([]string{"", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Nmt", "Precompiled", "BertNormalizer"}, s.Type)
}

// splitsAt says where a pre-tokenizer always splits a text: at all "white space", at "spaces", or "" if that is not known.
// It may also split at digits and punctuation.
func (s pipelineStep) splitsAt() string {
	switch s.Type {
	case "BertPreTokenizer", "Whitespace", "WhitespaceSplit":
		return "white space"
	case "ByteLevel":
		if s.UseRegex == nil || *s.UseRegex {
			return "white space"
		}
	case "Split":
		if slices.Contains(knownSplitPatterns, s.Pattern.Regex) && strings.EqualFold(s.Behavior, "isolated") && !s.Invert {
			return "white space"
		}
	case "Metaspace":
		if s.Split == nil || *s.Split {
			return "spaces"
		}
	case "Sequence":
		for _, x := range s.Pretokenizers {
			if x.Type != "Digits" && x.Type != "Punctuation" {
				return x.splitsAt() // later steps see single words
			}
		}
	}
	return ""
}

// spansWords says whether an added token consists of several words.
func (a addedToken) spansWords() bool {
	word := strings.TrimSpace(a.Content)
	return word != "" && strings.ContainsFunc(a.Content, unicode.IsSpace)
}
