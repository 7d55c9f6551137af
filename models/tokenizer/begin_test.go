package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// pieces are joined into texts with tokens that include white space or depend on the text after it.
var pieces = []string{
	" ", " ", "  ", "    ", "\n", "\n\n", "\t", "\r\n", "\u3000", "\u00a0", "a", "ab", "the", "the ", "I'll", "'", "l", "!", "!\n", "?!\n\n", "?!\n()", "...", "()", "(",
	"7", "42", "密", "密码", "，", "e\u0301", "\u0301", "é", "😀", "👍🏽", "[MASK]", "[MA", "[SEP]", "<|endoftext|>", "<think>", "<thi", "\u200b", "\ufffd", "#", "==", "\u2581", "<mask>", "</s>", "<bos>",
}

func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// edited opens a tokenizer with a changed tokenizer.json.
func edited(t *testing.T, dir string, change func(file map[string]any)) *Tokenizer {
	t.Helper()
	b, err := os.ReadFile(dir + "/" + File)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	change(file)
	if b, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	tok, err := parse(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func add(file map[string]any, content string, lstrip bool) {
	added := file["added_tokens"].([]any)
	file["added_tokens"] = append(added, map[string]any{"id": 300 + len(added), "content": content, "single_word": false,
		"lstrip": lstrip, "rstrip": false, "normalized": !lstrip, "special": lstrip})
}

// encodeBeginning returns the first tokens of the whole text, wherever the first n bytes end and whatever follows them.
func TestBeginningsAreThoseOfTheWholeText(t *testing.T) {
	tokenizers := map[string]*Tokenizer{}
	for _, dir := range []string{"../encoder/testdata/modernbert", "../encoder/testdata/qwen3", "../finetune/testdata/xlmr", "../finetune/testdata/bert", "../embedding/testdata/tiny", "testdata/sentencepiece/xlmr", "testdata/sentencepiece/t5", "testdata/sentencepiece/embeddinggemma"} {
		tokenizers[dir] = open(t, dir)
	}
	tokenizers["long runs of spaces"] = edited(t, "../encoder/testdata/modernbert", func(file map[string]any) { add(file, strings.Repeat(" ", 20), false) })
	tokenizers["a token that takes what is before it"] = edited(t, "../encoder/testdata/qwen3", func(file map[string]any) {
		add(file, "()", true)
		model := file["model"].(map[string]any) // "?!\n" is "?" and "!\n", but "?!" is one token
		model["merges"] = append([]any{[]any{"!", "Ċ"}, []any{"?", "!"}}, model["merges"].([]any)...)
		model["vocab"].(map[string]any)["!Ċ"], model["vocab"].(map[string]any)["?!"] = 400, 401
	})
	tokenizers["a token of two words"] = edited(t, "../encoder/testdata/qwen3", func(file map[string]any) { add(file, "the ab", false) })
	for name, tok := range tokenizers {
		r := rand.New(rand.NewPCG(1, 2))
		decided := 0
		for range 60 {
			text := randomText(r, 12)
			whole := tok.t.EncodeWithOptions(text, false).IDs
			for n := range len(text) {
				got := tok.encodeBeginning(text, n).IDs
				decided += len(got)
				if len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
					t.Fatalf("%s: %q up to %d: %v, the whole text has %v", name, text, n, got, whole)
				}
			}
		}
		if few := name == "a token of two words" || strings.HasSuffix(name, "gemma"); few != (decided == 0) {
			t.Errorf("%s: %d tokens were found in beginnings", name, decided)
		}
	}
}

// Long texts are encoded correctly even if tokens are longer than bytesPerToken or the text has no white space.
func TestLongTokensAreCutAlike(t *testing.T) {
	const long = 200
	tok := edited(t, "../encoder/testdata/modernbert", func(file map[string]any) { add(file, strings.Repeat(" ", long), false) })
	for name, text := range map[string]string{
		"spaces":        strings.Repeat("x"+strings.Repeat(" ", long), 50),
		"no spaces":     strings.Repeat("密码", 2000),
		"spaces at end": "x" + strings.Repeat(" ", 9000),
	} {
		whole := tok.t.EncodeWithOptions(text, false).IDs
		for room := range 40 {
			if got := tok.tokens(text, room); !slices.Equal(got, whole[:room]) {
				t.Errorf("%s, %d tokens: %v, want %v", name, room, got, whole[:room])
			}
		}
	}
}

// If a step may see several words at once, long texts are tokenized whole.
func TestUnknownStepsAreNotCut(t *testing.T) {
	steps := func(kind string, more ...any) any {
		m := map[string]any{"type": kind}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		key   string
		value any
		want  string
	}{
		"as it is":                   {"decoder", nil, " \t\n"},
		"no pre-tokenizer":           {"pre_tokenizer", nil, ""},
		"another pattern":            {"pre_tokenizer", steps("Split", "pattern", map[string]any{"Regex": `a b|c`}, "behavior", "Isolated", "invert", false), ""},
		"without its own pattern":    {"pre_tokenizer", steps("ByteLevel", "add_prefix_space", false, "trim_offsets", true, "use_regex", false), ""},
		"an unsplit Metaspace":       {"pre_tokenizer", steps("Metaspace", "replacement", "▁", "prepend_scheme", "always", "split", false), ""},
		"Metaspace":                  {"pre_tokenizer", steps("Metaspace", "replacement", "▁", "prepend_scheme", "always", "split", true), " "},
		"a pattern is replaced":      {"normalizer", steps("Replace", "pattern", map[string]any{"Regex": "a b"}, "content", "c"), ""},
		"the same after another one": {"normalizer", steps("Sequence", "normalizers", []any{steps("NFC"), steps("Prepend", "prepend", "▁")}), ""},
	} {
		tok := edited(t, "../encoder/testdata/modernbert", func(file map[string]any) { file[c.key] = c.value })
		if tok.wordBreaks != c.want {
			t.Errorf("%s: words are parted at %q, want %q", name, tok.wordBreaks, c.want)
		}
	}
}
