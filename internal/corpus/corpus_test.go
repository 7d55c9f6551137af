package corpus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCorpus(t *testing.T) {
	a := write(t, "a.jsonl", `{"_id": "d1", "title": "Sorting", "text": "Quick sort.", "metadata": {"lang": "en", "year": 2020}}
{"id": 7, "text": " 快速排序 ", "lang": "zh", "metadata": "plain"}
`)
	b := write(t, "b.jsonl", `{"_id": "d3", "id": "other", "title": null, "text": "Heap."}`+"\n"+`{"_id": null, "id": "d4", "text": "Tree."}`)
	c, err := Open(a, b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Len() != 4 {
		t.Fatalf("%d documents, want 4", c.Len())
	}
	for i, want := range []struct{ id, passage, metadata string }{
		{"d1", "Sorting Quick sort.", `{"lang":"en","year":2020}`},
		{"7", "快速排序", `{"lang":"zh","metadata":"plain"}`},
		{"d3", "Heap.", ``},
		{"d4", "Tree.", ``},
	} {
		d, err := c.Document(i)
		if err != nil {
			t.Fatal(err)
		}
		if d.ID != want.id || d.Passage() != want.passage || string(d.Metadata) != want.metadata {
			t.Errorf("document %d is %q, %q, %s; want %v", i, d.ID, d.Passage(), d.Metadata, want)
		}
		if n, ok := c.Number(d.ID); !ok || n != i {
			t.Errorf("Number(%q) = %d, %v, want %d", d.ID, n, ok, i)
		}
		again := Document{}
		if b, err := json.Marshal(d); err != nil || json.Unmarshal(b, &again) != nil || again.Text != d.Text || string(again.Metadata) != string(d.Metadata) {
			t.Errorf("document %d is %s after writing and reading, %v", i, b, err)
		}
	}
	if _, ok := c.Number("absent"); ok {
		t.Error("an absent id has a number")
	}
	if got := c.Location(2); got != b+":1" {
		t.Errorf("document 2 is at %s", got)
	}
	other, err := Open(b, a)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.Hash() == c.Hash() {
		t.Error("the order of documents does not change the hash")
	}
}

// Two ids with one hash are two documents.
func TestIDsWithOneHash(t *testing.T) {
	c, err := Open(write(t, "a.jsonl", `{"_id": "x", "text": "a"}`+"\n"+`{"_id": "y", "text": "b"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, n := range c.ids {
		if n == 1 {
			delete(c.ids, key)
			c.ids[key], c.clash["y"] = 0, 1
		}
	}
	if n, ok := c.Number("y"); !ok || n != 1 {
		t.Errorf("y is %d, %v, want 1", n, ok)
	}
}

func TestBadRows(t *testing.T) {
	for name, x := range map[string]struct{ rows, want string }{
		"no id":         {`{"text": "a"}`, `:1: "_id" (or "id") is missing or empty`},
		"empty id":      {`{"_id": "", "text": "a"}`, `"_id" (or "id") is missing or empty`},
		"id a list":     {`{"_id": ["a"], "text": "a"}`, `"_id" is ["a"], want a text or a whole number`},
		"id a fraction": {`{"_id": 1.5, "text": "a"}`, `want a text or a whole number`},
		"no text":       {`{"_id": "a", "text": "x"}` + "\n\n" + `{"_id": "b"}`, `:3: "text" of the document "b" is missing or empty`},
		"blank text":    {`{"_id": "b", "title": " ", "text": "\n"}`, `"text" of the document "b" is missing or empty`},
		"text a list":   {`{"_id": "b", "text": ["x"]}`, `"text" of the document "b" is ["x"], want a text`},
		"twice":         {`{"_id": "a", "text": "x"}` + "\n" + `{"_id": "a", "text": "y"}`, `:2: the id "a" is that of `},
		"not an object": {`[1]`, `want an object`},
		"null":          {`null`, `want an object`},
		"not JSON":      {`{"_id": `, `not JSON`},
		"no rows":       {``, `the file has no rows`},
	} {
		c, err := Open(write(t, "c.jsonl", x.rows))
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "c.jsonl") {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
	}
}
