package tokenizer

import (
	"reflect"
	"strings"
	"testing"
)

// Remembered texts have the tokens that they have anew, whatever was asked for first, and each is tokenized once.
func TestRemembered(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for _, rooms := range [][]int{{1, 3, 40, 2}, {40, 3, 1}, {6, 5, 6}, {0, 4}} {
		r := &Remembered{}
		for _, length := range rooms {
			for _, first := range []string{"", "a b c d e", strings.Repeat("b a ", 300), "c"} {
				for _, second := range []string{"", "d e d e d e", "a"} {
					for _, how := range []Truncation{OnlySecond, OnlyFirst, LongestFirst} {
						ids, types := tok.EncodePair(first, second, length, how)
						if gotIDs, gotTypes := tok.EncodePairRemembering(r, first, second, length, how); !reflect.DeepEqual(gotIDs, ids) || !reflect.DeepEqual(gotTypes, types) {
							t.Errorf("%.9q %q, %d tokens, %s: %v %v, want %v %v", first, second, length, how, gotIDs, gotTypes, ids, types)
						}
					}
					overlap := func(n int) int { return n / 4 }
					ids, types := tok.PairWindows(nil, first, "", second, "a", length, 1, overlap)
					if gotIDs, gotTypes := tok.PairWindows(r, first, "", second, "a", length, 1, overlap); !reflect.DeepEqual(gotIDs, ids) || !reflect.DeepEqual(gotTypes, types) {
						t.Errorf("%.9q %q, windows of %d tokens: %v %v, want %v %v", first, second, length, gotIDs, gotTypes, ids, types)
					}
				}
			}
		}
	}
	r := &Remembered{}
	first := r.tokens(tok, "a b c", 9)
	if again := r.tokens(tok, "a b c", 1000); &first[0] != &again[0] {
		t.Error("a whole text was tokenized twice")
	}
}
