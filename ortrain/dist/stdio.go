package dist

import (
	"errors"
	"fmt"
	"io"
)

// Stdio lets the ranks of a job run one program over a stream: all of them read what rank 0 reads, and only rank 0 writes.
//
//	s := dist.NewStdio(comm)
//	in, out := s.Reader(os.Stdin), s.Writer(os.Stdout)
//	…                // every rank reads and writes alike
//	err = s.Err()    // of rank 0's writing
//
// The ranks must read alike: each Read that needs new bytes is collective.
type Stdio struct {
	c      Comm
	failed error // of rank 0's writing
}

// NewStdio returns a Stdio for the ranks of a job.
func NewStdio(c Comm) *Stdio { return &Stdio{c: c} }

// Writer writes to an io.Writer on rank 0; on other ranks it drops what is written. It never fails: an error of rank 0 comes to
// all ranks from their next Read, and from Err.
// One rank alone writes and reads directly, and its errors come from Write and Read.
func (s *Stdio) Writer(to io.Writer) io.Writer {
	if s.c.Size() == 1 {
		return to
	}
	return stdioWriter{s, to}
}

type stdioWriter struct {
	s  *Stdio
	to io.Writer
}

func (w stdioWriter) Write(b []byte) (int, error) {
	if w.s.c.Rank() == 0 && w.s.failed == nil {
		_, w.s.failed = w.to.Write(b)
	}
	return len(b), nil
}

// Err is the error of rank 0's writing, on all ranks. It is collective.
func (s *Stdio) Err() error { return Agree(s.c, s.failed) }

// Reader reads from an io.Reader on rank 0, and gives the same bytes to all ranks. Other ranks may pass nil.
func (s *Stdio) Reader(from io.Reader) io.Reader {
	if s.c.Size() == 1 {
		return from
	}
	return &stdioReader{s: s, from: from, read: make([]byte, stdioChunk)}
}

// stdioChunk is how many bytes of input the ranks share at most at once.
const stdioChunk = 1 << 16

type stdioReader struct {
	s    *Stdio
	from io.Reader
	read []byte // rank 0's buffer
	left []byte // bytes that all ranks have, and this one has not returned yet
	end  error
}

// What rank 0 sends: a byte, and the bytes that it has read or the text of an error.
const (
	stdioBytes = iota
	stdioEnd
	stdioError
)

func (r *stdioReader) Read(b []byte) (int, error) {
	for len(r.left) == 0 && r.end == nil && len(b) > 0 {
		r.end = r.share()
	}
	if len(r.left) == 0 && len(b) > 0 {
		return 0, r.end
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// share reads the next bytes on rank 0 and gives them to all ranks.
func (r *stdioReader) share() error {
	var mine []byte
	var failed error
	if r.s.c.Rank() == 0 {
		mine, failed = r.next()
	}
	all, err := r.s.c.AllGather(mine)
	if err != nil {
		return errors.Join(failed, err)
	}
	first := all[0]
	if len(first) == 0 {
		return fmt.Errorf("rank 0 shared no input")
	}
	switch first[0] {
	case stdioBytes:
		r.left = first[1:]
		return nil
	case stdioEnd:
		return io.EOF
	}
	if failed == nil {
		failed = errors.New(string(first[1:]))
	}
	return &RankError{Rank: 0, Err: failed}
}

// next reads on rank 0.
func (r *stdioReader) next() ([]byte, error) {
	n, err := 0, r.s.failed
	for n == 0 && err == nil {
		n, err = r.from.Read(r.read)
	}
	switch {
	case n > 0: // an error beside bytes comes again
		return append([]byte{stdioBytes}, r.read[:n]...), nil
	case errors.Is(err, io.EOF):
		return []byte{stdioEnd}, nil
	}
	return append([]byte{stdioError}, err.Error()...), err
}
