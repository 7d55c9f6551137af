package finetune

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/data"
)

// A row's own prompt stays apart from its query, because scoring uses it instead of the model's prompt. Equal queries with
// different prompts are different samples.
func TestValidationKeepsPromptsApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "val.jsonl")
	rows := `{"query": "a", "prompt_for_query": "own ", "content": "b", "label": 1}
{"query": "a", "prompt_for_query": "own ", "content": "c", "label": 0}
{"query": "a", "content": "b", "label": 1}
{"query": "a", "content": "c", "label": 0}
`
	if err := os.WriteFile(path, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := data.Open(t.Context(), []string{path}, data.Options{Examples: func(data.Row) (int, error) { return 1, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := rerankingSamples(d, 0)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for i, want := range []string{"own ", ""} {
		if s := got[i]; s.Prompt != want || s.Query[0] != "a" || !strings.HasSuffix(s.Origin, "val.jsonl:"+[]string{"1", "3"}[i]) {
			t.Errorf("sample %d: %+v", i, s)
		}
	}
}
