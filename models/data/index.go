package data

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/mapped"
)

// indexVersion changes when an index means something else than before.
const indexVersion = 2

// recordSize is the size of a record: start of the row (8 bytes), its length, its line and which of its examples is
// meant (4 bytes each), little-endian.
const recordSize = 20

type record struct {
	start        int64
	length, line uint32
	item         uint32
}

// summary is what is known of a file besides its examples.
type summary struct {
	Skipped  int    `json:"skipped"`
	FirstBad string `json:"first_bad,omitempty"`
	// Idle rows teach nothing and make no example.
	Idle      int    `json:"idle,omitempty"`
	FirstIdle string `json:"first_idle,omitempty"`
}

// file is a file of rows with the index of its examples, which is mapped, not read: it takes memory only where it is
// used.
type file struct {
	path    string
	rows    *os.File
	mapped  []byte
	summary summary
	remove  string // a temporary index
}

// openFile indexes a file, or takes the index that an earlier run left in the cache. The cache knows it by the file's
// path, size and time of change, and by the options that decide what is an example.
func openFile(path string, o Options) (*file, error) {
	rows, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, rows: rows}
	if err := f.open(o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *file) open(o Options) error {
	index, err := f.indexPath(o)
	if err != nil {
		return err
	}
	if f.mapIndex(index) == nil {
		return nil
	}
	err = atomicdir.Create(index, func(w io.Writer) error { return f.build(bufio.NewWriterSize(w, 1<<20), o) })
	if err != nil {
		return err
	}
	b, err := json.Marshal(f.summary)
	if err != nil {
		return err
	}
	if err := atomicdir.WriteFile(index+".json", b); err != nil {
		return err
	}
	return f.mapIndex(index)
}

// indexPath is where the index lies, or will.
func (f *file) indexPath(o Options) (string, error) {
	if o.Cache == "" {
		dir, err := os.MkdirTemp("", "index-*")
		f.remove = dir
		return filepath.Join(dir, "index"), err
	}
	st, err := f.rows.Stat()
	if err != nil {
		return "", err
	}
	whole, err := filepath.Abs(f.path)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%d\n%d\n%s\n%s\n%s\n%v", indexVersion, whole, st.Size(), st.ModTime().UnixNano(), o.Key, o.LabelKey, o.Form, o.SkipBad))
	return filepath.Join(o.Cache, fmt.Sprintf("%x.index", key[:12])), os.MkdirAll(o.Cache, 0o755)
}

// build reads every row, checks it, and writes a record for each of its examples.
func (f *file) build(w *bufio.Writer, o Options) error {
	f.summary = summary{}
	err := jsonl.Scan(f.rows, f.path, func(start int64, line int, b []byte) error {
		n := 0
		r, err := o.decode(b)
		if err == nil {
			n, err = o.Examples(r)
		}
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", f.path, line, err)
			if errors.Is(err, ErrIdle) {
				if f.summary.Idle++; f.summary.Idle == 1 {
					f.summary.FirstIdle = err.Error()
				}
				return nil
			}
			if !o.SkipBad {
				return err
			}
			if f.summary.Skipped++; f.summary.Skipped == 1 {
				f.summary.FirstBad = err.Error()
			}
			return nil
		}
		var rec [recordSize]byte
		binary.LittleEndian.PutUint64(rec[:], uint64(start))
		binary.LittleEndian.PutUint32(rec[8:], uint32(len(b)))
		binary.LittleEndian.PutUint32(rec[12:], uint32(line))
		for item := range n {
			binary.LittleEndian.PutUint32(rec[16:], uint32(item))
			if _, err := w.Write(rec[:]); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, w.Flush())
}

// mapIndex maps an index that is there and whole.
func (f *file) mapIndex(index string) error {
	b, err := os.ReadFile(index + ".json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &f.summary); err != nil {
		return err
	}
	if f.mapped, err = mapped.Open(index); err != nil {
		return err
	}
	if len(f.mapped)%recordSize != 0 {
		return errors.Join(fmt.Errorf("%s: %d bytes are no whole number of records", index, len(f.mapped)), f.unmap())
	}
	return nil
}

func (f *file) unmap() error {
	err := mapped.Close(f.mapped)
	f.mapped = nil
	return err
}

// examples is the number of the file's examples.
func (f *file) examples() int { return len(f.mapped) / recordSize }

func (f *file) record(i int) record {
	b := f.mapped[i*recordSize:]
	return record{
		start: int64(binary.LittleEndian.Uint64(b)), length: binary.LittleEndian.Uint32(b[8:]),
		line: binary.LittleEndian.Uint32(b[12:]), item: binary.LittleEndian.Uint32(b[16:]),
	}
}

// read reads example i's row.
func (f *file) read(i int, o Options) (Row, int, error) {
	rec := f.record(i)
	b := make([]byte, rec.length)
	if _, err := f.rows.ReadAt(b, rec.start); err != nil {
		return Row{}, 0, fmt.Errorf("%s:%d: %w", f.path, rec.line, err)
	}
	r, err := o.decode(b)
	if err != nil {
		return r, 0, fmt.Errorf("%s:%d: %w", f.path, rec.line, err)
	}
	return r, int(rec.item), nil
}

// Close closes the file and its index.
func (f *file) Close() error {
	errs := []error{f.rows.Close(), f.unmap()}
	if f.remove != "" {
		errs = append(errs, os.RemoveAll(f.remove))
	}
	return errors.Join(errs...)
}
