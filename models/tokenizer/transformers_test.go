package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// pairRow is [first text, second text, length, strategy, ids, types].
type pairRow struct {
	first, second, length int
	how                   Truncation
	ids, types            []int64
}

func (r *pairRow) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&r.first, &r.second, &r.length, &r.how, &r.ids, &r.types})
}

// Single texts and pairs have the ids of transformers' tokenizers with every truncation strategy. scripts/fixtures/make_tokens.py
// and make_sentencepiece.py wrote the expected ids; RAG_RETRIEVAL_TOKENS names a folder with more of them.
func TestIDsEqualTransformers(t *testing.T) {
	dirs := []string{"testdata", "testdata/sentencepiece"}
	if d := os.Getenv("RAG_RETRIEVAL_TOKENS"); d != "" {
		dirs = []string{d}
	}
	for _, dir := range dirs {
		t.Run(dir, func(t *testing.T) { idsEqualTransformers(t, dir) })
	}
}

func idsEqualTransformers(t *testing.T, dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Folders map[string]string
		Texts   []string
		Singles map[string]map[string][][]int64
		Pairs   map[string][]pairRow
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	compared, wrong := 0, 0
	report := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for name, folder := range want.Folders {
		tok := open(t, folder)
		for length, rows := range want.Singles[name] {
			n, _ := strconv.Atoi(length)
			for i, ids := range rows {
				if ids == nil { // not made
					continue
				}
				compared++
				if got := tok.Encode(want.Texts[i], n); !reflect.DeepEqual(got, ids) {
					report("%s: %.60q at %d: %v, want %v", name, want.Texts[i], n, got, ids)
				}
			}
		}
		for _, p := range want.Pairs[name] {
			compared++
			ids, types := tok.EncodePair(want.Texts[p.first], want.Texts[p.second], p.length, p.how)
			if !reflect.DeepEqual(ids, p.ids) || !reflect.DeepEqual(types, p.types) {
				report("%s: %.40q and %.40q at %d, %s: %v %v, want %v %v", name, want.Texts[p.first], want.Texts[p.second], p.length, p.how, ids, types, p.ids, p.types)
			}
		}
	}
	t.Logf("%d sequences, %d wrong", compared, wrong)
	if compared < 300 {
		t.Errorf("only %d sequences were compared", compared)
	}
}

func FuzzTokenizer(f *testing.F) {
	for _, path := range []string{"../embedding/testdata/tiny/tokenizer.json", "../finetune/testdata/xlmr/tokenizer.json", "testdata/sentencepiece/t5/tokenizer.json",
		"testdata/sentencepiece/gemma/tokenizer.json"} {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := parse(b, 0)
		if err != nil {
			return
		}
		defer tok.Close()
		tok.Encode("a b", 8) // only that it does not panic
		tok.EncodePair("a b", "c", 8, LongestFirst)
	})
}

// If the text that should stay whole leaves no room, it is cut too, so that nothing is longer than maxLength.
func TestPairsThatDoNotFit(t *testing.T) {
	for _, how := range []Truncation{OnlySecond, OnlyFirst, LongestFirst} {
		for n := range 12 {
			for m := range 12 {
				for room := range 12 {
					a, b := truncatedLengths(n, m, room, how)
					if a > n || b > m || a < 0 || b < 0 || a+b > room || a+b != min(n+m, room) {
						t.Fatalf("%s: %d and %d in %d: %d and %d", how, n, m, room, a, b)
					}
				}
			}
		}
	}
}
