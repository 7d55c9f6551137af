package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/daulet/tokenizers"
)

// bytesPerToken is how much of a long text is read first for each token asked for. Real texts have 3 to 6 bytes a token.
const bytesPerToken = 12

// prefix gives at least the first room tokens of a text, or all it has. Of a long text only a beginning is tokenized.
func (t *Tokenizer) prefix(text string, room int) []uint32 {
	for n := bytesPerToken * (room + 1); n > 0 && n < len(text); n *= 4 {
		if ids := t.begin(text, n); len(ids) >= room {
			return ids
		}
	}
	return t.t.EncodeWithOptions(text, false).IDs
}

// begin gives first tokens of a text that its first n bytes decide, whatever follows them; none where that is few.
//
// What follows can change the tokens of the last word in these bytes, and those of the white space before it, which an added
// token that begins there may swallow (lstrip). A word's end can reach into the white space behind it: a byte-level
// tokenizer may make one token of "!\n". So the tokens end where the white space before the last but one word begins:
//
//	Is it "new"?  No.  It is ol|d.
//	                     ^ here
func (t *Tokenizer) begin(text string, n int) []uint32 {
	for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	end := n
	for range 2 {
		if end = t.beforeWord(text[:end]); end < n/2 { // little would be kept of what is tokenized
			return nil
		}
	}
	e := t.t.EncodeWithOptions(text[:n], false, tokenizers.WithReturnOffsets())
	count := 0
	for count < len(e.IDs) && e.Offsets[count][1] <= uint(end) {
		count++
	}
	return e.IDs[:count]
}

// beforeWord is where the white space before the last word of a text begins; 0 if there is none.
func (t *Tokenizer) beforeWord(text string) int {
	text = strings.TrimRightFunc(text, unicode.IsSpace)
	for {
		last := strings.LastIndexAny(text, t.breaks)
		if last < 0 {
			return 0
		}
		if start := len(strings.TrimRightFunc(text[:last], unicode.IsSpace)); start > 0 {
			return start
		}
		text = text[:last]
	}
}

// splits are the patterns of pre-tokenizers that part words as begin needs it: no match reaches over white space into the next
// word, and none depends on more than the white space behind it and one character.
var splits = []string{
	// Qwen2 and Qwen3
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// Qwen3.5
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// Llama 3, and OpenAI's cl100k
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	// GPT-2
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
}

// step is a normalizer or a pre-tokenizer of a tokenizer.json.
type step struct {
	Type                       string
	Normalizers, Pretokenizers []step
	UseRegex                   *bool `json:"use_regex"`
	Split                      *bool
	Pattern                    struct{ String, Regex string }
	Behavior                   string
	Invert                     bool
}

// setBreaks finds the characters that part two words to this tokenizer, so that begin can rely on them. There are none where
// the file has a step that may see several words at once or that is not known; its long texts are tokenized whole.
func (t *Tokenizer) setBreaks(file map[string]json.RawMessage, added []addedToken) {
	var normalizer, pre step
	for key, s := range map[string]*step{"normalizer": &normalizer, "pre_tokenizer": &pre} {
		if raw := file[key]; raw != nil && json.Unmarshal(raw, s) != nil {
			return
		}
	}
	if !normalizer.keepsWords() || slices.ContainsFunc(added, addedToken.hasWords) {
		return
	}
	switch pre.parts() {
	case "white space":
		t.breaks = " \t\n"
	case "spaces": // others only where the normalizer makes spaces of them
		t.breaks = " "
		ids := func(text string) []uint32 { return t.t.EncodeWithOptions(text, false).IDs }
		for _, c := range "\t\n" {
			if of := ids("a" + string(c) + "a"); slices.Equal(of, ids("a a")) && !slices.Equal(of, ids("aa")) {
				t.breaks += string(c)
			}
		}
	}
}

// keepsWords says whether a normalizer reads no two words at once.
func (s step) keepsWords() bool {
	switch s.Type {
	case "Sequence":
		return !slices.ContainsFunc(s.Normalizers, func(x step) bool { return !x.keepsWords() })
	case "Replace":
		return s.Pattern.Regex == " {2,}" || len(s.Pattern.String) == 1
	}
	return slices.Contains([]string{"", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Nmt", "Precompiled", "BertNormalizer"}, s.Type)
}

// parts says where a pre-tokenizer surely parts a text: at all "white space", at "spaces", or "" if that is not known. Digits
// and punctuation may be parted too.
func (s step) parts() string {
	switch s.Type {
	case "BertPreTokenizer", "Whitespace", "WhitespaceSplit":
		return "white space"
	case "ByteLevel":
		if s.UseRegex == nil || *s.UseRegex {
			return "white space"
		}
	case "Split":
		if slices.Contains(splits, s.Pattern.Regex) && strings.EqualFold(s.Behavior, "isolated") && !s.Invert {
			return "white space"
		}
	case "Metaspace":
		if s.Split == nil || *s.Split {
			return "spaces"
		}
	case "Sequence":
		for _, x := range s.Pretokenizers {
			if x.Type != "Digits" && x.Type != "Punctuation" {
				return x.parts() // what comes after it sees one word
			}
		}
	}
	return ""
}

// hasWords says whether an added token reaches over white space into another word.
func (a addedToken) hasWords() bool {
	word := strings.TrimSpace(a.Content)
	return word != "" && strings.ContainsFunc(a.Content, unicode.IsSpace)
}
