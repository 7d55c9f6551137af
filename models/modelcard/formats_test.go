package modelcard

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
)

// What stands around texts is saved where sentence-transformers finds it if its prompts can tell it, else in the card, and
// read back either way.
func TestFormatsAreSavedAndReadBack(t *testing.T) {
	plain := prompt.Formats{Query: prompt.Prefix("query: "), Document: prompt.Prefix("passage: ")}
	rich := prompt.Formats{Query: prompt.Format{Before: "{", After: "?"}, Document: prompt.Prefix("passage: ")}
	onlyQuery := prompt.Formats{Query: prompt.Prefix("query: ")}
	for _, c := range []struct {
		kind   Kind
		f      prompt.Formats
		inCard bool
	}{
		{Embedding, prompt.Formats{}, false}, {Embedding, plain, false}, {Embedding, rich, true}, {ColBERT, plain, false},
		{Reranker, plain, true}, {Reranker, onlyQuery, true}, {Reranker, prompt.Formats{}, false},
	} {
		for _, before := range []string{"", `{"model_type": "CrossEncoder", "prompts": {"query": "old ", "passage": "old "}, "default_prompt_name": "query", "x": 1}`} {
			dir := t.TempDir()
			if before != "" {
				write(t, dir, transformersFile, before)
			}
			made := Card{Kind: c.kind, BaseModel: "org/base"}
			if err := made.SaveFormats(dir, c.f); err != nil {
				t.Fatal(err)
			}
			if err := made.Write(dir); err != nil {
				t.Fatal(err)
			}
			if got, err := Formats(dir, c.kind); err != nil || got != c.f {
				t.Errorf("%s %v: read back %v, %v", c.kind, c.f, got, err)
			}
			page, err := os.ReadFile(filepath.Join(dir, MarkdownFile))
			if said := strings.Contains(string(page), "does not know"); err != nil || said != c.inCard || (made.QueryFormat != "") != c.inCard {
				t.Errorf("%s %v: in the card %v, on the model's page %v, want %v; %v", c.kind, c.f, made.QueryFormat, said, c.inCard, err)
			}
		}
	}
}

func TestFormatsOfOthers(t *testing.T) {
	for _, c := range []struct {
		kind          Kind
		name, content string
		want          prompt.Formats
		err           string
	}{
		{Embedding, transformersFile, `{"prompts": {"query": "q", "passage": "p"}}`, prompt.Formats{Query: prompt.Prefix("q"), Document: prompt.Prefix("p")}, ""},
		{Embedding, transformersFile, `{"prompts": {"query": null, "document": "", "corpus": "c"}, "default_prompt_name": "corpus"}`, prompt.Formats{Document: prompt.Prefix("c")}, ""},
		{Reranker, transformersFile, `{"prompts": {"query": "q"}}`, prompt.Formats{}, ""},
		{Reranker, transformersFile, `{"prompts": {"a": "q"}, "default_prompt_name": "a"}`, prompt.Formats{Query: prompt.Prefix("q")}, ""},
		{Embedding, transformersFile, `{"prompts": 3}`, prompt.Formats{}, transformersFile},
		{Reranker, File, `{"query_format": "{} {}"}`, prompt.Formats{}, "rag_retrieval.json: query_format: \"{} {}\" has 2 places"},
	} {
		dir := t.TempDir()
		write(t, dir, c.name, c.content)
		if c.want != (prompt.Formats{}) && c.kind == Reranker {
			write(t, dir, "modules.json", "[]")
		}
		got, err := Formats(dir, c.kind)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.content, err, c.err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", c.content, got, err, c.want)
		}
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var x any
	if err := hf.ReadJSON(filepath.Join(dir, name), &x); err != nil {
		t.Fatal(err)
	}
}
