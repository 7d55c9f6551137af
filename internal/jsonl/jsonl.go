// Package jsonl reads files with one JSON object on each line. Lines may have any length. Errors name file and line.
//
//	f, err := jsonl.Open("train.jsonl")      // one pass, which finds where each row starts
//	defer f.Close()
//	err = f.Row(41, &row)                    // reads only row 41
package jsonl

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"rag-retrieval-go/internal/atomicdir"
)

// File is an indexed file. Each call of Row reads the row from disk. Several goroutines may call Row.
type File struct {
	Path   string
	f      *os.File
	starts []int64 // offset of each row that is not blank
	lines  []int32 // line number of each row, from 1
	ends   []int64 // offset of the end of each row
}

// Open indexes a file. A file without rows is an error.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	x := &File{Path: path, f: f}
	if err := x.index(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

func (x *File) index() error {
	return Scan(x.f, x.Path, func(start int64, line int, b []byte) error {
		x.starts = append(x.starts, start)
		x.ends = append(x.ends, start+int64(len(b)))
		x.lines = append(x.lines, int32(line))
		return nil
	})
}

// errNoRows is the error of a file without rows.
var errNoRows = errors.New("the file has no rows")

// byteOrderMark is at the start of files from some Windows programs.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Scan calls f for every row that is not blank, with the row's offset, its line number from 1 and its bytes, which f must
// not keep. A file without rows is an error. path is for messages.
func Scan(from io.Reader, path string, f func(start int64, line int, b []byte) error) error {
	r := bufio.NewReaderSize(from, 1<<20)
	offset, line, rows := int64(0), 0, 0
	for {
		b, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", path, err)
		}
		if line++; line == 1 && bytes.HasPrefix(b, byteOrderMark) {
			offset, b = int64(len(byteOrderMark)), b[len(byteOrderMark):]
		}
		if len(bytes.TrimSpace(b)) > 0 {
			rows++
			if err := f(offset, line, b); err != nil {
				return err
			}
		}
		offset += int64(len(b))
		if err != nil {
			break
		}
	}
	if rows == 0 {
		return fmt.Errorf("%s: %w", path, errNoRows)
	}
	return nil
}

// readLine reads up to and including the next newline. Unlike bufio.Scanner, it does not limit the length of a line.
func readLine(r *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			whole = append(whole, part...)
			continue
		}
		if whole == nil {
			return part, err
		}
		return append(whole, part...), err
	}
}

// Len is the number of rows.
func (x *File) Len() int { return len(x.starts) }

// Row reads row i, from 0, into v.
func (x *File) Row(i int, v any) error {
	b := make([]byte, x.ends[i]-x.starts[i])
	if _, err := x.f.ReadAt(b, x.starts[i]); err != nil {
		return x.Errorf(i, "%w", err)
	}
	if err := Decode(b, v); err != nil {
		return x.Errorf(i, "%w", err)
	}
	return nil
}

// Errorf makes an error with the file and the line of row i.
func (x *File) Errorf(i int, format string, args ...any) error {
	return fmt.Errorf("%s: %w", x.Location(i), fmt.Errorf(format, args...))
}

// Location returns the file and the line of row i, such as "train.jsonl:42".
func (x *File) Location(i int) string { return fmt.Sprintf("%s:%d", x.Path, x.lines[i]) }

// Close closes the file.
func (x *File) Close() error { return x.f.Close() }

// Decode reads one JSON value. Invalid UTF-8 is an error; encoding/json would replace it silently.
func Decode(b []byte, v any) error {
	if !utf8.Valid(b) {
		at := 0
		for at < len(b) {
			r, n := utf8.DecodeRune(b[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return fmt.Errorf("not valid UTF-8 at byte %d of the line", at+1)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return explainJSON(err)
	}
	return nil
}

// explainJSON rewrites errors of encoding/json in words for users.
func explainJSON(err error) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON: %w (byte %d of the line); want one JSON object on each line", err, syntax.Offset)
	case errors.As(err, &typed) && typed.Field != "":
		return fmt.Errorf("%q is %s, want %s", typed.Field, withArticle(typed.Value), typed.Type)
	case errors.As(err, &typed):
		return fmt.Errorf("the row is %s, want an object", withArticle(typed.Value))
	}
	return err
}

// withArticle puts the article before what encoding/json calls a value, such as "array" or "number 1.5".
func withArticle(value string) string {
	if strings.HasPrefix(value, "array") || strings.HasPrefix(value, "object") {
		return "an " + value
	}
	return "a " + value
}

// ReadLog reads the rows that a run appended to a file. A missing file has no rows. If the run was killed, the last row may
// be cut short; it is dropped. A file that exists but cannot be read is an error, because the caller would otherwise
// overwrite it.
func ReadLog[T any](path string) ([]T, error) {
	f, err := Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []T
	for i := range f.Len() {
		var row T
		if err := f.Row(i, &row); err != nil && i < f.Len()-1 {
			return nil, err
		} else if err == nil {
			out = append(out, row)
		}
	}
	return out, nil
}

// Write writes rows as JSON lines. A crash leaves no half-written file.
func Write[T any](path string, rows []T) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return atomicdir.WriteFile(path, b.Bytes())
}

// Strings is a JSON string or a list of strings.
type Strings []string

// UnmarshalJSON reads both forms.
func (s *Strings) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' { // trying both forms would read a long list twice
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*s = Strings{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("want a string or a list of strings, found %.40s", b)
	}
	*s = many
	return nil
}
