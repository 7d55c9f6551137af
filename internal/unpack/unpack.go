// Package unpack converts .jsonl.gz and .parquet files into JSON lines in a cache folder. Each file is converted only once.
package unpack

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/stamp"
)

// IsPacked says whether a file has to be unpacked.
func IsPacked(path string) bool {
	return strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".parquet")
}

// File returns the path of a file's rows as JSON lines: the file itself, or for a packed file its unpacked copy in the
// cache. The cache identifies a file by its path and its stamp (see package stamp). If another process is unpacking the
// file, File calls waiting, which may be nil, and waits.
func File(ctx context.Context, path, cache string, waiting func(filelock.Holder)) (string, error) {
	var convert func(ctx context.Context, in *os.File, size int64, out io.Writer) error
	switch {
	case strings.HasSuffix(path, ".gz"):
		convert = fromGzip
	case strings.HasSuffix(path, ".parquet"):
		convert = fromParquet
	default:
		return path, nil
	}
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return "", err
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	now, err := stamp.OfFile(in)
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", whole, now))
	base := filepath.Base(path)
	base = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".parquet"), ".jsonl")
	to := filepath.Join(cache, fmt.Sprintf("%x", key[:8]), base+".jsonl")
	if exists(to) {
		return to, nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	lock, err := filelock.Wait(ctx, to+".lock", waiting)
	if err != nil {
		return "", err
	}
	if !exists(to) { // another process may have unpacked it meanwhile
		err = errors.Join(atomicdir.Clean(to), atomicdir.Create(to, func(out io.Writer) error {
			w := bufio.NewWriterSize(out, 1<<20)
			return errors.Join(convert(ctx, in, st.Size(), w), w.Flush())
		}))
	}
	if err := errors.Join(err, lock.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return to, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// contextReader is a reader that fails when its context ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

func fromGzip(ctx context.Context, in *os.File, _ int64, out io.Writer) error {
	z, err := gzip.NewReader(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return fmt.Errorf("not a gzip file: %w", err)
	}
	if _, err := io.Copy(out, contextReader{ctx, z}); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	return nil
}

// checkFooter checks that the footer length in a parquet file is not larger than the file. The library would allocate a
// buffer of that length without a check.
func checkFooter(in io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return fmt.Errorf("not a parquet file: %d bytes long", size)
	}
	if _, err := in.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	if string(tail[4:]) != "PAR1" {
		return fmt.Errorf("not a parquet file, or cut short: it does not end in PAR1")
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-12 {
		return fmt.Errorf("not a parquet file, or cut short: a footer of %d bytes in a file of %d", n, size)
	}
	return nil
}

// rowsAtOnce is how many rows of a parquet file are held in memory.
const rowsAtOnce = 256

// fromParquet writes each row as an object of its columns.
func fromParquet(ctx context.Context, in *os.File, size int64, out io.Writer) (err error) {
	defer func() { // the library panics for some broken files
		if p := recover(); p != nil {
			err = fmt.Errorf("a broken parquet file: %v", p)
		}
	}()
	if err := checkFooter(in, size); err != nil {
		return err
	}
	f, err := parquet.OpenFile(in, size)
	if err != nil {
		return fmt.Errorf("not a parquet file, or cut short: %w", err)
	}
	r := parquet.NewGenericReader[any](in, f.Schema())
	defer r.Close()
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	rows := make([]any, rowsAtOnce)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(rows)
		for _, row := range rows[:n] {
			if err := e.Encode(row); err != nil {
				return err
			}
		}
		clear(rows)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
	}
}
