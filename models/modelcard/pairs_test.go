package modelcard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/prompt"
)

// The layout of a decoder's pairs goes into the card and comes back, white space and braces too, and the card for readers
// shows how to load the model in RAG-Retrieval.
func TestJoinedPairsAreKept(t *testing.T) {
	for _, f := range []prompt.Formats{
		{Seq: "\n", SpecialToken: "\nrelevance", Query: prompt.Prefix("query: "), Document: prompt.Format{Before: "{", After: "\n"}},
		{SpecialToken: "</s>"}, {Seq: " "},
	} {
		dir, c := t.TempDir(), Card{Kind: Reranker, MaxLen: 7}
		if err := c.SaveFormats(dir, f); err != nil {
			t.Fatal(err)
		}
		if err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
		if again, err := Formats(dir, Reranker); err != nil || again != f {
			t.Errorf("%+v reads as %+v, %v", f, again, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, MarkdownFile))
		if err != nil || !strings.Contains(string(text), "LLMDecoder.from_pretrained(") || strings.Contains(string(text), "import CrossEncoder") {
			t.Errorf("%s, %v", text, err)
		}
	}
}
