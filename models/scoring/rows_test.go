package scoring

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/tokenizer"
)

// letters is a text of n tokens, of which each is a letter from first on.
func letters(first byte, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = string(first + byte(i%8))
	}
	return strings.Join(words, " ")
}

// prompted is a format of so many tokens before and after the text.
func prompted(before, after int) prompt.Format {
	f := prompt.Format{}
	if before > 0 {
		f.Before = letters('q', before) + " "
	}
	if after > 0 {
		f.After = " " + letters('q', after)
	}
	return f
}

// Texts of no token, of one, and of one less, as many and one more than fit, with prompts that leave much, little or no
// room: no row is longer than allowed, none is without its special tokens, and windows have the whole text wherever
// there is room for one.
func TestRowsAtTheLimits(t *testing.T) {
	tok, err := tokenizer.Open("../embedding/testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	checked := 0
	for _, room := range []int{1, 2, 5, 9} {
		limit := room + tok.SpecialTokens()
		for _, n := range []int{0, 1, room - 1, room, room + 1, 4*room + 3} {
			for _, p := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {room - 1, 0}, {room, 0}, {room + 7, 0}, {1, room}, {2, 2}} {
				f := prompt.Formats{Document: prompted(p[0], p[1])}
				all := n + p[0] + p[1]
				cut := rowsOfText(t, tok, f, n, limit, CutEnd)
				if got, want := len(cut[0].IDs), min(all, room)+tok.SpecialTokens(); len(cut) != 1 || got != want {
					t.Errorf("room %d, %d tokens, prompt %v: %d rows, the first of %d tokens, want %d", room, n, p, len(cut), got, want)
				}
				windows := rowsOfText(t, tok, f, n, limit, Windows)
				free := room - p[0] - p[1]
				if (all <= room || free < 1) && !slices.Equal(windows[0].IDs, cut[0].IDs) {
					t.Errorf("room %d, %d tokens, prompt %v: the window %v, cut %v", room, n, p, windows[0].IDs, cut[0].IDs)
				}
				if all > room && free >= 1 && tokensIn(windows, 1+p[0], 1+p[1]) < n {
					t.Errorf("room %d, %d tokens, prompt %v: windows %v", room, n, p, windows)
				}
				checkRows(t, windows, limit, tok.SpecialTokens(), fmt.Sprint(room, n, p))
				checked++
			}
		}
	}
	if checked < 190 {
		t.Errorf("%d cases", checked)
	}
}

func rowsOfText(t *testing.T, tok *tokenizer.Tokenizer, f prompt.Formats, n, limit int, long LongText) []encoder.Row {
	t.Helper()
	rows, err := Rows(tok, f, prompt.Text{Text: letters('a', n)}, limit, long)
	if err != nil || len(rows) == 0 {
		t.Fatal(rows, err)
	}
	return rows
}

// tokensIn counts the tokens of windows between head and tail.
func tokensIn(rows []encoder.Row, head, tail int) (n int) {
	for _, r := range rows {
		n += len(r.IDs) - head - tail
	}
	return n
}

// checkRows says whether rows fit and have the special tokens of the tiny model, [CLS] 2 first and [SEP] 3 last.
func checkRows(t *testing.T, rows []encoder.Row, limit, specials int, what string) {
	t.Helper()
	for _, r := range rows {
		if len(r.IDs) > limit || len(r.IDs) < specials || r.IDs[0] != 2 || r.IDs[len(r.IDs)-1] != 3 {
			t.Errorf("%s: the row %v of at most %d tokens", what, r.IDs, limit)
		}
		if r.Types != nil && len(r.Types) != len(r.IDs) {
			t.Errorf("%s: %d types for %d tokens", what, len(r.Types), len(r.IDs))
		}
	}
}

// The same for pairs: the query is whole wherever it leaves room for a passage, and every token of the passage is in one of
// its windows.
func TestPairsAtTheLimits(t *testing.T) {
	tok, err := tokenizer.Open("../embedding/testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	for _, room := range []int{2, 5, 9} {
		limit := room + tok.PairSpecialTokens()
		sizes := []int{0, 1, room - 1, room, room + 1, 4*room + 3}
		for _, q := range sizes {
			for _, d := range sizes {
				for _, p := range [][2]int{{0, 0}, {1, 0}, {room, 0}, {room + 7, 0}, {1, 1}} {
					f := prompt.Formats{Query: prompted(p[0], 0), Document: prompted(0, p[1])}
					pair := Pair{Query: letters('a', q), Passage: letters('i', d)}
					what := fmt.Sprint(room, q, d, p)
					cut, err := PairRows(tok, f, pair, limit, 1, CutEnd)
					if err != nil {
						t.Fatal(what, err)
					}
					checkRows(t, cut, limit, tok.PairSpecialTokens(), what)
					if want := min(q+d+p[0]+p[1], room) + tok.PairSpecialTokens(); len(cut) != 1 || len(cut[0].IDs) != want {
						t.Errorf("%s: %d tokens, want %d", what, len(cut[0].IDs), want)
					}
					windows, err := PairRows(tok, f, pair, limit, 1, Windows)
					if err != nil {
						t.Fatal(what, err)
					}
					checkRows(t, windows, limit, tok.PairSpecialTokens(), what)
					if q+p[0]+p[1] < room && tokensIn(windows, q+p[0]+1, p[1]+2) < d {
						t.Errorf("%s: windows %v", what, windows)
					}
				}
			}
		}
	}
}

// The query of a call is tokenized once for all its documents, and the pairs are those that are made one by one.
func TestQueriesAreTokenizedOnce(t *testing.T) {
	tok, err := tokenizer.Open("../embedding/testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	long := letters('a', 5000)
	var pairs []Pair
	for _, q := range []string{long, "b", long, ""} {
		pairs = append(pairs, Pair{Query: q, Passage: "c"}, Pair{Query: q, Passage: letters('i', 40)}, Pair{Query: q, Passage: "d", Prompt: "e "})
	}
	var shared *tokenizer.Remembered
	c := CrossEncoder{
		Rows: func(p Pair, long LongText) ([]encoder.Row, error) {
			if p.queries == nil || shared != nil && p.queries != shared {
				t.Error("the pairs of a call do not share their queries' tokens")
			}
			shared = p.queries
			got, err := PairRows(tok, prompt.Formats{}, p, 16, 1, long)
			p.queries = nil
			want, _ := PairRows(tok, prompt.Formats{}, p, 16, 1, long)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%.9q %.9q: %v, want %v", p.Query, p.Passage, got, want)
			}
			return got, err
		},
		Forward: func(rows []encoder.Row) ([]float32, error) { return make([]float32, len(rows)), nil },
	}
	for _, c.Windows = range []bool{false, true} {
		shared = nil
		if _, err := c.Pairs(t.Context(), pairs, nil); err != nil {
			t.Fatal(err)
		}
	}
}
