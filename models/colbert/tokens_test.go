package colbert

import (
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/prompt"
)

// Tokens are those of the encoding, each with its role and its place in the text without the prompt.
func TestTokens(t *testing.T) {
	for _, c := range []struct {
		folder, query, document string
		text                    prompt.Text
		maxLen                  int
		want                    string // the parts of the text, and the roles of other tokens in brackets; a dot before what does not count
		cut                     bool
	}{
		{"testdata/pylate", "{}", "{}", prompt.Text{Text: "a 密, b"}, 20, "(special)(marker) a 密 ., b(special)", false},
		{"testdata/pylate", "{}", "{}", prompt.Text{Text: "a 密, b"}, 5, "(special)(marker) a 密(special)", true},
		{"testdata/pylate", "{}", "d {} z", prompt.Text{Text: "密 b"}, 20, "(special)(marker)(prompt) 密 b(prompt)(special)", false},
		{"testdata/pylate", "q {}", "{}", prompt.Text{Query: true, Text: "b"}, 8, "(special)(marker)(prompt) b(special)(expansion)(expansion)(expansion)", false},
		{"testdata/pylate", "q {}", "{}", prompt.Text{Query: true, Prompt: "e ", Text: "b"}, 6, "(special)(marker)(prompt) b(special)(expansion)", false},
		{"../finetune/testdata/folders/qwen3-colbert-pylate", "{}", "{}", prompt.Text{Text: "密码"}, 20, "(marker) 密 密 密 码 码 码(special)", false},
		{"../finetune/testdata/folders/modernbert-colbert", "q: {}", "{}", prompt.Text{Query: true, Text: "密码 b"}, 20, "(special)(prompt)(prompt)(prompt) 密 密 密 码 码 码   b(special)", false},
	} {
		m, err := Open(c.folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		if m.Formats.Query, err = prompt.Parse(c.query); err != nil {
			t.Fatal(err)
		}
		if m.Formats.Document, err = prompt.Parse(c.document); err != nil {
			t.Fatal(err)
		}
		tokens, cut, err := m.Tokens(c.text, c.maxLen)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		var got strings.Builder
		for _, x := range tokens {
			ids = append(ids, x.ID)
			switch {
			case x.Role != TextToken:
				got.WriteString("(" + string(x.Role) + ")")
			case x.Counted:
				got.WriteString(" " + c.text.Text[x.Start:x.End])
			default:
				got.WriteString(" ." + c.text.Text[x.Start:x.End])
			}
			if x.Name == "" {
				t.Errorf("%s: %+v has no name", c.folder, x)
			}
		}
		row, err := m.row(c.text, c.maxLen)
		if err != nil || !slices.Equal(ids, row.IDs) {
			t.Errorf("%s: %v, want %v: %v", c.folder, ids, row.IDs, err)
		}
		if s := got.String(); s != c.want || cut != c.cut {
			t.Errorf("%s: %q of at most %d tokens: %s, cut %v; want %s, %v", c.folder, c.text.Text, c.maxLen, s, cut, c.want, c.cut)
		}
	}
}
