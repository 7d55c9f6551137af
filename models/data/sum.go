package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/stamp"
)

// Sum tells a file's bytes from others.
type Sum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// String is short enough for a message.
func (s Sum) String() string { return fmt.Sprintf("%d bytes with SHA-256 %.12s…", s.Size, s.SHA256) }

// summer sums up what is read through it, until a context ends.
type summer struct {
	ctx  context.Context
	from io.Reader
	h    hash.Hash
	n    int64
}

func newSummer(ctx context.Context, from io.Reader) *summer {
	return &summer{ctx, from, sha256.New(), 0}
}

func (s *summer) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.from.Read(b)
	s.n += int64(n)
	s.h.Write(b[:n])
	return n, err
}

func (s *summer) sum() Sum { return Sum{s.n, hex.EncodeToString(s.h.Sum(nil))} }

// SumFile sums up a file that is no file of rows. cache is a folder for sums, so that a large file is read only
// once; empty: none is kept.
func SumFile(ctx context.Context, path, cache string) (Sum, error) {
	f, err := os.Open(path)
	if err != nil {
		return Sum{}, err
	}
	defer f.Close()
	now, err := stamp.OfFile(f)
	if err != nil {
		return Sum{}, err
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return Sum{}, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", whole, now))
	known := filepath.Join(cache, fmt.Sprintf("%x.sum.json", key[:12]))
	if cache == "" {
		known = ""
	}
	var sum Sum
	if b, err := os.ReadFile(known); err == nil && json.Unmarshal(b, &sum) == nil && len(sum.SHA256) == 2*sha256.Size {
		return sum, nil
	}
	s := newSummer(ctx, f)
	if _, err := io.Copy(io.Discard, s); err != nil {
		return Sum{}, fmt.Errorf("%s: %w", path, err)
	}
	if known == "" {
		return s.sum(), nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Sum{}, err
	}
	return s.sum(), atomicdir.WriteJSON(known, s.sum())
}
