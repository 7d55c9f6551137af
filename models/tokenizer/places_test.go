package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// EncodeTokens has Encode's ids, and places within the text, in order.
func TestEncodeTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, dir := range []string{"../encoder/testdata/modernbert", "../encoder/testdata/qwen3", "../finetune/testdata/xlmr", "../finetune/testdata/bert", "../embedding/testdata/tiny",
		"testdata/sentencepiece/xlmr", "testdata/sentencepiece/t5", "testdata/sentencepiece/embeddinggemma"} {
		tok := open(t, dir)
		for i := range 400 {
			text, length := randomText(r, 1+r.IntN(40)), tok.SpecialTokens()+r.IntN(60)
			if i%4 == 0 {
				text = strings.Repeat("a", r.IntN(3)) + "\x00" + text + "\xff\xfe\xe5" + text + "\x00"
			}
			tokens, cut := tok.EncodeTokens(text, length)
			var ids []int64
			last := 0
			for _, x := range tokens {
				ids = append(ids, x.ID)
				if x.Special {
					continue
				}
				if x.Start > x.End || x.End > len(text) || x.End < last {
					t.Fatalf("%s: %q: %+v after %d", dir, text, x, last)
				}
				last = x.End
			}
			if want := tok.Encode(text, length); !slices.Equal(ids, want) {
				t.Fatalf("%s: %q: %v, want %v", dir, text, ids, want)
			}
			if want := len(tok.IDs(text))+tok.SpecialTokens() > length; cut != want {
				t.Fatalf("%s: %q at %d tokens: cut is %v", dir, text, length, cut)
			}
		}
	}
}

// The places are those of the text as it was written: before lower case, without accents, with NULs and bytes that are no UTF-8.
func TestPlacesOfTokens(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for text, want := range map[string]string{
		"the A":                "the|A",
		"  thé  a ":            "thé|a",
		"THE\x00a":             "THE|a", // BERT drops control characters
		"a \xff\xfe\xfd\xfc b": "a|b",
		"a \x00\x00 b":         "a|b",
		"the 密a":               "the|密|a",
		"a👩‍💻 b":               "a👩‍💻|b",
	} {
		var got []string
		tokens, _ := tok.EncodeTokens(text, 100)
		for _, x := range tokens {
			if !x.Special {
				got = append(got, text[x.Start:x.End])
			}
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q: %q, want %q", text, s, want)
		}
	}
	if got := fmt.Sprint(tok.Name(tok.single[0].ids[0])); got != "[CLS]" {
		t.Errorf("the first token is %q", got)
	}
}
