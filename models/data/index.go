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
	File      Sum    `json:"file"`
	// IndexSHA256 is of the index itself: one that is damaged is made anew.
	IndexSHA256 string `json:"index_sha256"`
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
// path and stamp, and by the options that decide what is an example. Where another process makes it, openFile waits.
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
	lock, err := filelock.Wait(ctx, index+".lock", filelock.Tell("the index of "+f.path))
	if err != nil {
		return err
	}
	err = f.mapIndex(index) // it may have been made meanwhile
	if err != nil {
		err = f.makeIndex(ctx, index, before, o)
	}
	return errors.Join(err, lock.Close())
}

// makeIndex writes the index and its summary. before is the file's stamp as it was opened.
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

// indexPath is where the index of a file with this stamp lies, or will.
//
// A stamp, not the file's bytes, finds the index: a run that goes on need not read 100 GB again. It catches a change under
// a restored time all the same (see package stamp), and the index holds the bytes' SHA-256 from when they were read, which
// a checkpoint is compared by. What escapes is a disk whose bytes rot, or are written past the file system.
func (f *file) indexPath(o Options, stamp string) (string, error) {
	if o.Cache == "" {
		dir, err := os.MkdirTemp("", "index-*")
		f.remove = dir
		return filepath.Join(dir, "index"), err
	}
	whole, err := filepath.Abs(f.path)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%s\n%s\n%s\n%v", indexVersion, whole, stamp, o.Key, o.LabelKey, o.Form, o.SkipBad))
	return filepath.Join(o.Cache, fmt.Sprintf("%x.index", key[:12])), os.MkdirAll(o.Cache, 0o755)
}

// build reads every row, checks it, and writes a record for each of its examples.
func (f *file) build(ctx context.Context, w *bufio.Writer, o Options) error {
	f.summary = summary{}
	if _, err := f.rows.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := newSummer(ctx, f.rows)
	err := jsonl.Scan(sum, f.path, func(start int64, line int, b []byte) error {
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
	f.summary.File = sum.sum()
	return errors.Join(err, w.Flush())
}

// mapIndex maps an index that is there and whole.
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
