package unpack

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

const rows = `{"query":"\u4e2d <a>","pos":["b","c"],"label":0.5}
{"query":"d","pos":["e"],"label":1}
`

type row struct {
	Query string   `parquet:"query"`
	Pos   []string `parquet:"pos,list"`
	Label float64  `parquet:"label"`
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func gz(t testing.TB) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(rows))
	check(t, err)
	check(t, z.Close())
	return b.Bytes()
}

func columns(t testing.TB) []byte {
	var b bytes.Buffer
	check(t, parquet.Write(&b, []row{{"\u4e2d <a>", []string{"b", "c"}, 0.5}, {"d", []string{"e"}, 1}}))
	return b.Bytes()
}

// normal normalizes the order of keys and the escaping of characters in JSON.
func normal(s string) string {
	s = strings.ReplaceAll(s, `\u4e2d`, "\u4e2d")
	return strings.ReplaceAll(s, `{"label":0.5,"pos":["b","c"],"query":"`+"\u4e2d"+` <a>"}`, `{"query":"`+"\u4e2d"+` <a>","pos":["b","c"],"label":0.5}`)
}

func TestFile(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	for name, content := range map[string][]byte{"a.jsonl.gz": gz(t), "b.parquet": columns(t)} {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, content, 0o600))
		to, err := File(context.Background(), path, cache, nil)
		check(t, err)
		b, err := os.ReadFile(to)
		check(t, err)
		if got, want := strings.SplitN(normal(string(b)), "\n", 2)[0], strings.SplitN(normal(rows), "\n", 2)[0]; got != want || strings.Count(string(b), "\n") != 2 {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		check(t, os.WriteFile(to, []byte("kept"), 0o600))
		again, err := File(context.Background(), path, cache, nil)
		if err != nil || again != to {
			t.Errorf("%s a second time: %s, %v", name, again, err)
		}
		check(t, os.WriteFile(path, content[:len(content)*2/3], 0o600))
		if to, err := File(context.Background(), path, cache, nil); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s cut short: %s, %v", name, to, err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(cache, "*", "*"))
	if len(left) != 2 {
		t.Errorf("the cache has %v", left)
	}
	if to, err := File(context.Background(), "plain.jsonl", cache, nil); err != nil || to != "plain.jsonl" {
		t.Errorf("a plain file: %s, %v", to, err)
	}
}

func FuzzParquet(f *testing.F) {
	f.Add(columns(f))
	f.Add([]byte("PAR1\x15\x04\xff\xff\xff\xffPAR1")) // a footer of 4 GB, by its own account
	path := filepath.Join(f.TempDir(), "x.parquet")
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, os.WriteFile(path, b, 0o600))
		in, err := os.Open(path)
		check(t, err)
		defer in.Close()
		var out bytes.Buffer
		_ = fromParquet(context.Background(), in, int64(len(b)), &out) // only that it returns
	})
}
