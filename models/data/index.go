package data

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/mapped"
	"rag-retrieval-go/internal/stamp"
)

// indexVersion must change whenever the format or the meaning of an index changes.
const indexVersion = 4

// recordSize is the size of an example's record in bytes: offset of the row (8 bytes), its length, its line number and the
// example's index in the row (4 bytes each), little-endian.
const recordSize = 20

type record struct {
	start        int64
	length, line uint32
	indexInRow   uint32
}

// summary holds the counts and the checksum of an indexed file.
type summary struct {
	Skipped  int    `json:"skipped"`
	FirstBad string `json:"first_bad,omitempty"`
	// Uninformative counts rows that teach nothing. They make no example.
	Uninformative      int    `json:"idle,omitempty"`
	FirstUninformative string `json:"first_idle,omitempty"`
	// Short counts rows with fewer negatives than Options.Negatives.
	Short      int      `json:"short,omitempty"`
	FirstShort string   `json:"first_short,omitempty"`
	File       Checksum `json:"file"`
	// IndexSHA256 is the checksum of the index itself. A damaged index is made again.
	IndexSHA256 string `json:"index_sha256"`
}

// file is a file of rows with the index of its examples. The index is memory-mapped, so that only its used pages take
// memory.
type file struct {
	path    string
	rows    *os.File
	mapped  []byte
	summary summary
	tempDir string // of an index that is not kept; "" if it is
}

// openFile opens a file and its index. It uses the index in the cache if there is one for the file's path, its stamp (see
// package stamp) and the options that decide how many examples a row makes. Otherwise it makes the index, or waits for
// another process that is making it.
func openFile(ctx context.Context, path string, o Options) (*file, error) {
	rows, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, rows: rows}
	if err := f.open(ctx, o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *file) open(ctx context.Context, o Options) error {
	before, err := stamp.OfFile(f.rows)
	if err != nil {
		return err
	}
	index, err := f.indexPath(o, before)
	if err != nil {
		return err
	}
	if f.mapIndex(index) == nil {
		return nil
	}
	lock, err := filelock.Wait(ctx, index+".lock", func(h filelock.Holder) {
		if o.Note != nil {
			o.Note(fmt.Sprintf("waiting for %v: the index of %s", h, f.path))
		}
	})
	if err != nil {
		return err
	}
	err = f.mapIndex(index) // another process may have made it meanwhile
	if err != nil {
		err = f.makeIndex(ctx, index, before, o)
	}
	return errors.Join(err, lock.Close())
}

// makeIndex writes the index and its summary. before is the file's stamp from when it was opened.
func (f *file) makeIndex(ctx context.Context, index, before string, o Options) error {
	if err := atomicdir.Clean(index); err != nil {
		return err
	}
	sum := sha256.New()
	err := atomicdir.Create(index, func(w io.Writer) error {
		return f.build(ctx, bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<20), o)
	})
	if err != nil {
		return err
	}
	if after, err := stamp.OfFile(f.rows); err != nil || after != before {
		return errors.Join(fmt.Errorf("%s was changed while it was read", f.path), err, os.Remove(index))
	}
	f.summary.IndexSHA256 = hex.EncodeToString(sum.Sum(nil))
	if err := atomicdir.WriteJSON(index+".json", f.summary); err != nil {
		return err
	}
	return f.mapIndex(index)
}

// indexPath returns the path of the index of a file with this stamp.
//
// The index is found by the file's stamp, not by its bytes, so that a resumed run need not read 100 GB again. The stamp
// also changes if a file is changed and its modification time is then restored. The index holds the SHA-256 of the bytes
// from when they were read, which is compared with a checkpoint's. Only bytes that change without the file system's
// knowledge, such as by a failing disk, are not noticed.
func (f *file) indexPath(o Options, stamp string) (string, error) {
	if o.Cache == "" {
		dir, err := os.MkdirTemp("", "index-*")
		f.tempDir = dir
		return filepath.Join(dir, "index"), err
	}
	whole, err := filepath.Abs(f.path)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%s\n%s\n%s\n%v\n%d", indexVersion, whole, stamp, o.Key, o.LabelKey, o.Form, o.SkipBad, o.Negatives))
	return filepath.Join(o.Cache, fmt.Sprintf("%x.index", key[:12])), os.MkdirAll(o.Cache, 0o755)
}

// build reads and checks every row, and writes a record for each of its examples.
func (f *file) build(ctx context.Context, w *bufio.Writer, o Options) error {
	f.summary = summary{}
	if _, err := f.rows.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := newHashingReader(ctx, f.rows)
	err := jsonl.Scan(sum, f.path, func(start int64, line int, b []byte) error {
		n := 0
		r, err := o.decode(b)
		if err == nil {
			n, err = o.Examples(r)
		}
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", f.path, line, err)
			if errors.Is(err, ErrUninformative) {
				if f.summary.Uninformative++; f.summary.Uninformative == 1 {
					f.summary.FirstUninformative = err.Error()
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
		if n > 0 && len(r.Neg) < o.Negatives {
			if f.summary.Short++; f.summary.Short == 1 {
				f.summary.FirstShort = fmt.Sprintf("%s:%d has %d", f.path, line, len(r.Neg))
			}
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
	f.summary.File = sum.checksum()
	return errors.Join(err, w.Flush())
}

// mapIndex maps an existing index. A missing or damaged index is an error.
func (f *file) mapIndex(index string) error {
	b, err := os.ReadFile(index + ".json")
	if err != nil {
		return err
	}
	f.summary = summary{}
	if err := json.Unmarshal(b, &f.summary); err != nil {
		return err
	}
	if f.mapped, err = mapped.Open(index); err != nil {
		return err
	}
	if sum := sha256.Sum256(f.mapped); hex.EncodeToString(sum[:]) != f.summary.IndexSHA256 || len(f.mapped)%recordSize != 0 {
		return errors.Join(fmt.Errorf("%s is damaged: %d bytes with SHA-256 %x", index, len(f.mapped), sum), f.unmap())
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
		line: binary.LittleEndian.Uint32(b[12:]), indexInRow: binary.LittleEndian.Uint32(b[16:]),
	}
}

// read reads the row of example i. It returns the row and the example's index in it.
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
	return r, int(rec.indexInRow), nil
}

// Close closes the file and its index.
func (f *file) Close() error {
	errs := []error{f.rows.Close(), f.unmap()}
	if f.tempDir != "" {
		errs = append(errs, os.RemoveAll(f.tempDir))
	}
	return errors.Join(errs...)
}
