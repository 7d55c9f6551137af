package data

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"query":"a","pos":["b"],"neg":"c"}` + "\n" + `{"query":"a","hits":[{"content":"b","label":1}]}`))
	f.Add([]byte(`{"query":"a","content":"b","label":1,"prompt_for_query":"x"}`))
	f.Add([]byte(`{"query":"a","pos":["b"],"scores":[0.5]}`))
	path := filepath.Join(f.TempDir(), "x.jsonl")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"label", "score"} {
			d, err := Open(t.Context(), []string{path}, Options{LabelKey: key, SkipBad: true, Examples: func(Row) (int, error) { return 1, nil }})
			if err != nil {
				continue
			}
			for i := range d.Len() {
				d.Example(i) // only that it does not panic
			}
			d.Close()
		}
	})
}
