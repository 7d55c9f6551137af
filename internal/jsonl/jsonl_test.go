package jsonl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
)

type row struct {
	A string  `json:"a"`
	N float64 `json:"n"`
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.jsonl")
	check(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// wants checks that an error contains all these words.
func wants(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v, want one with %q", err, w)
		}
	}
}

// Several goroutines read rows in any order. Rows may have any length and line ending. Blank lines are not rows, but count in
// line numbers.
func TestFile(t *testing.T) {
	long := strings.Repeat("x", 3<<20) // longer than the reader's buffer
	f, err := Open(write(t, "{\"a\":\"one\"}\r\n\n  \n{\"a\":\""+long+"\"}\n{\"a\":\"end\"}"))
	check(t, err)
	defer f.Close()
	if f.Len() != 3 {
		t.Fatalf("%d rows", f.Len())
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i, want := range []string{"one", long, "end"} {
				var r row
				if err := f.Row(i, &r); err != nil || r.A != want {
					t.Errorf("row %d: %.10q, %v", i, r.A, err)
				}
			}
		})
	}
	all.Wait()
	wants(t, f.Errorf(1, "bad %q", "a"), f.Path+`:4: bad "a"`)
}

// A byte order mark is not part of the first row.
func TestByteOrderMark(t *testing.T) {
	f, err := Open(write(t, "\xef\xbb\xbf"+`{"a":"密码"}`+"\r\n"+`{"a":"two"}`))
	check(t, err)
	defer f.Close()
	for i, want := range []string{"密码", "two"} {
		var r row
		if check(t, f.Row(i, &r)); r.A != want {
			t.Errorf("row %d: %q, want %q", i, r.A, want)
		}
	}
	_, err = Open(write(t, "\xef\xbb\xbf\n"))
	wants(t, err, "the file has no rows")
}

// Errors have file and line, and describe the problem in words for users.
func TestBadRows(t *testing.T) {
	for content, want := range map[string]string{
		`{"a":`:                      "x.jsonl:1: not JSON: unexpected end of JSON input (byte 5 of the line); want one JSON object on each line",
		"\n{\"a\":\"b\"}x":           "x.jsonl:2: not JSON: ",
		`{"a":1}`:                    `"a" is a number, want string`,
		`[1]`:                        "the row is an array, want an object",
		"{\"a\":\"ok\xff\"}":         "not valid UTF-8 at byte 9 of the line",
		`{"n":1e999}`:                `"n" is a number 1e999, want float64`,
		"{\"a\":\"\x00\"}":           "not JSON: invalid character",
		`{"a":"b"}` + "\x00\x00\x00": "not JSON: ",
	} {
		f, err := Open(write(t, content))
		check(t, err)
		var r row
		wants(t, f.Row(0, &r), want)
		check(t, f.Close())
	}
	for _, empty := range []string{"", "\n \n"} {
		_, err := Open(write(t, empty))
		wants(t, err, "x.jsonl: the file has no rows")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// ReadLog returns all complete rows. A missing file has no rows; a file that cannot be opened is an error.
func TestReadLog(t *testing.T) {
	want := []row{{"one", 1}, {"two", 2}}
	whole := `{"a":"one","n":1}` + "\n" + `{"a":"two","n":2}` + "\n"
	for _, content := range []string{whole, whole + `{"a":"thr`, whole + "\x00\x00\x00"} {
		if got, err := ReadLog[row](write(t, content)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", content, got, err)
		}
	}
	_, err := ReadLog[row](write(t, "{\"a\":\n"+whole))
	wants(t, err, "x.jsonl:1: ")
	for _, path := range []string{write(t, ""), write(t, `{"a"`), filepath.Join(t.TempDir(), "none")} {
		if got, err := ReadLog[row](path); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	loop := filepath.Join(t.TempDir(), "loop") // as root no permission is missing: a link to itself cannot be opened either
	check(t, os.Symlink(loop, loop))
	for path, want := range map[string]error{loop: syscall.ELOOP, filepath.Join(write(t, "x"), "below"): syscall.ENOTDIR, t.TempDir(): syscall.EISDIR} {
		if got, err := ReadLog[row](path); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v, want %v", path, got, err, want)
		}
	}
}

// ReadLog reads what Write wrote. Characters that HTML would escape stay as they are.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	want := []row{{"<a&b>", 0.1}, {"密码", -1e-7}}
	check(t, Write(path, want))
	if got, err := ReadLog[row](path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if b, _ := os.ReadFile(path); !strings.HasPrefix(string(b), `{"a":"<a&b>"`) {
		t.Errorf("%s", b)
	}
	wants(t, Write(path, []any{func() {}}), "unsupported type")
	if got, err := ReadLog[row](path); err != nil || len(got) != 2 {
		t.Errorf("a failed write left %v, %v", got, err)
	}
}

func TestStrings(t *testing.T) {
	for text, want := range map[string]string{`"a"`: "[a]", `["a","b"]`: "[a b]", `[]`: "[]", `null`: "[]"} {
		var s Strings
		check(t, Decode([]byte(text), &s))
		if fmt.Sprint(s) != want {
			t.Errorf("%s: %v", text, s)
		}
	}
	var s Strings
	wants(t, Decode([]byte(`{"a":1}`), &s), "want a string or a list of strings, found {")
	wants(t, Decode([]byte(`["a",1]`), &s), "want a string or a list of strings")
}
