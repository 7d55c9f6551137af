package tokenizer

import (
	"reflect"
	"strings"
	"testing"

	"github.com/daulet/tokenizers"
)

func TestTokenize(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	want := []Token{{ID: 2, Text: "[CLS]", Special: true}, {5, "A", false, 0, 1}, {32, "b", false, 1, 2}, {1, "中", false, 3, 6}, {ID: 3, Text: "[SEP]", Special: true}}
	if got := tok.Tokenize("Ab 中", true); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := tok.Tokenize("Ab 中", false); !reflect.DeepEqual(got, want[1:4]) {
		t.Errorf("without special tokens: %v, want %v", got, want[1:4])
	}
	if got := tok.Tokenize("", false); len(got) != 0 {
		t.Errorf("the empty text has the tokens %v", got)
	}
}

// A text that is cut to n tokens has the first n tokens of the whole text.
func TestCut(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for _, text := range []string{"", "a b c", "abc de", "a\x00b \xff c", "中文 a 中"} {
		all := tok.IDs(text)
		for n := range 8 {
			if got := tok.IDs(tok.Cut(text, n)); !reflect.DeepEqual(got, all[:min(n, len(all))]) && len(got)+n > 0 {
				t.Errorf("%q cut to %d tokens: %v, want the first of %v", text, n, got, all)
			}
		}
		if got := tok.Cut(text, len(all)); got != text {
			t.Errorf("%q became %q, though it was short enough", text, got)
		}
	}
	// Of a long text only the beginning is tokenized, if words can be told apart in it.
	for _, long := range []string{strings.Repeat("a  b\x00 c ", 3000), strings.Repeat("a中", 3000)} {
		for _, n := range []int{1, 2, 7, 600} {
			want := long
			if e := tok.t.EncodeWithOptions(sanitize(long), false, tokenizers.WithReturnOffsets()); len(e.IDs) > n {
				want = sanitize(long)[:e.Offsets[n-1][1]]
			}
			if got := tok.Cut(long, n); got != want {
				t.Errorf("%.9q, %d tokens: %d bytes, want %d", long, n, len(got), len(want))
			}
		}
	}
}

func TestEncodeEnd(t *testing.T) {
	tok := open(t, "../embedding/testdata/tiny")
	for limit, want := range map[int][]int64{10: {2, 5, 6, 7, 3}, 5: {2, 5, 6, 7, 3}, 4: {2, 6, 7, 3}, 2: {2, 3}, 0: {2, 3}} {
		if got := tok.EncodeEnd("a b c", limit); !reflect.DeepEqual(got, want) {
			t.Errorf("at most %d: %v, want %v", limit, got, want)
		}
	}
}
