package tokenizer

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
)

func open(t *testing.T, dir string) *Tokenizer {
	t.Helper()
	tok, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

// The tiny tokenizer's vocabulary: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, "." 4, a–z from 5, ##a–##z from 31.
func TestEncode(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for _, c := range []struct {
		text string
		max  int
		want []int64
	}{
		{"a", 10, []int64{2, 5, 3}},
		{"", 10, []int64{2, 3}},
		{"AB.", 10, []int64{2, 5, 32, 4, 3}},
		{"a \u4e2d", 10, []int64{2, 5, 1, 3}},
		{"a\x00b", 10, []int64{2, 5, 32, 3}},               // not cut at the NUL, which BERT drops like other control characters
		{"a b c d e f g h i j", 5, []int64{2, 5, 6, 7, 3}}, // cut at its end; the file's own padding and truncation are off
	} {
		if got := tok.Encode(c.text, c.max); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
	if tok.SpecialTokens() != 2 {
		t.Errorf("%d special tokens", tok.SpecialTokens())
	}
}

// Tokenizing only the beginning of a long text returns the same tokens.
func TestLongTextsAreCutAlike(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for name, text := range map[string]string{
		"words": strings.Repeat("word of  the\n", 3000), "one word": strings.Repeat("x", 5000),
		"a long word first": strings.Repeat("y", 3000) + " a b", "spaces": strings.Repeat(" ", 40_000) + "a b c d e",
	} {
		whole, _ := tok.t.Encode(text, false)
		for _, n := range []int{3, 10, 100} {
			got := tok.Encode(text, n)
			var want []int64
			for _, id := range whole[:min(len(whole), n-2)] {
				want = append(want, int64(id))
			}
			if !reflect.DeepEqual(got[1:len(got)-1], want) {
				t.Errorf("%s at %d: %v, want %v", name, n, got[1:len(got)-1], want)
			}
		}
	}
}

// The ids of a real tokenizer equal those of Python's library.
func TestRealTokenizer(t *testing.T) {
	b, err := os.ReadFile("../../../shared/golden/eval_minilm.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the golden numbers are not in this checkout")
	} else if err != nil {
		t.Fatal(err)
	}
	const model = "../../.rag-retrieval/models/all-MiniLM-L6-v2"
	if _, err := os.Stat(model); err != nil {
		t.Skip("the model is not set up: scripts/setup.sh")
	}
	var golden struct {
		Pairs []struct {
			Query, Content string
			QueryIDs       []int64 `json:"query_ids_max256"`
			ContentIDs     []int64 `json:"content_ids_max256"`
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	tok := open(t, model)
	for i, p := range golden.Pairs {
		if !reflect.DeepEqual(tok.Encode(p.Query, 256), p.QueryIDs) || !reflect.DeepEqual(tok.Encode(p.Content, 256), p.ContentIDs) {
			t.Errorf("pair %d differs", i)
		}
	}
	if len(golden.Pairs) != 50 {
		t.Errorf("%d pairs", len(golden.Pairs))
	}
}

// Every window of a long text starts with the prompt's tokens. The first window equals the text cut at its end.
func TestWindowsKeepWhatStandsBefore(t *testing.T) {
	for _, dir := range []string{"../embedding/testdata/tiny", "../finetune/testdata/xlmr", "../finetune/testdata/bert", "testdata/sentencepiece/xlmr", "testdata/sentencepiece/t5", "testdata/sentencepiece/embeddinggemma"} {
		tok := open(t, dir)
		first := 0 // special tokens before a text
		if _, _, ok := tok.First(); ok {
			first = 1
		}
		for _, before := range []string{"a b: ", "密码 ", "a\x00b \xff ", "如何", " "} {
			for _, text := range []string{strings.Repeat("密码 ab, c ", 9), strings.Repeat("x", 60), strings.Repeat("如何", 30)} {
				const limit = 16
				windows := tok.Windows(before, text, "", limit, func(n int) int { return n / 4 })
				head := len(tok.frame(before, text, "").before)
				if !reflect.DeepEqual(windows[0], tok.Encode(before+text, limit)) {
					t.Errorf("%s: %q before %.9q: the first window is %v, want %v", dir, before, text, windows[0], tok.Encode(before+text, limit))
				}
				for _, w := range windows {
					if len(w) > limit || !reflect.DeepEqual(w[:first+head], windows[0][:first+head]) {
						t.Errorf("%s: %q before %.9q: the window %v", dir, before, text, w)
					}
				}
				if strings.TrimSpace(before) == before && before != "如何" && head == 0 {
					t.Errorf("%s: %q before %.9q has no token of its own", dir, before, text)
				}
			}
		}
	}
}
