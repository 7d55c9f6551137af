package prompt

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Format{
		"{}": {}, "query: {}": {Before: "query: "}, "{}\nrelevance": {After: "\nrelevance"}, "a{{b}} {} {{}}": {"a{b} ", " {}"},
		"{{{}}}": {"{", "}"}, "{{{}": {Before: "{"}, "{{}}{}": {Before: "{}"}, "文{}本": {"文", "本"},
	} {
		f, err := Parse(s)
		if err != nil || f != want {
			t.Errorf("%q: %+v, %v; want %+v", s, f, err, want)
		}
		if again, err := Parse(f.String()); err != nil || again != f {
			t.Errorf("%q is written as %q, which reads as %+v, %v", s, f, again, err)
		}
	}
	for s, want := range map[string]string{
		"": "0 places", "query: ": "0 places", "{}{}": "2 places", "{{}}": "0 places", "{": "byte 1", "{} }": "byte 4",
		"{0}": "byte 1", "{text}": "byte 1", "{!r}": "byte 1", "{:>9}": "byte 1", "{ }": "byte 1",
	} {
		if f, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", s, f, err, want)
		}
	}
}

// A row's own prompt stands in place of the model's, for queries and with a format that has more behind the text.
func TestAround(t *testing.T) {
	f := Formats{Query: Format{"ask: ", "?"}, Document: Prefix("doc: ")}
	for _, c := range []struct {
		x    Text
		want string
	}{
		{Text{Query: true, Text: "how"}, "ask: how?"}, {Text{Query: true, Prompt: "own ", Text: "how"}, "own how?"}, {Text{Text: "how"}, "doc: how"},
	} {
		if got := f.Around(c.x).String(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.x, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("query: {}")
	f.Add("{{{}}}")
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := Parse(s); err == nil && x.String() != s {
			t.Errorf("%q is written as %q", s, x)
		}
	})
}
