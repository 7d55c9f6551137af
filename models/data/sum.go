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

// Checksum identifies the content of a file.
type Checksum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// String returns size and the first digits of the SHA-256, for messages.
func (s Checksum) String() string {
	return fmt.Sprintf("%d bytes with SHA-256 %.12s…", s.Size, s.SHA256)
}

// hashingReader computes the checksum of everything that is read through it. Reading fails when the context ends.
type hashingReader struct {
	ctx  context.Context
	from io.Reader
	h    hash.Hash
	n    int64
}

func newHashingReader(ctx context.Context, from io.Reader) *hashingReader {
	return &hashingReader{ctx, from, sha256.New(), 0}
}

func (s *hashingReader) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.from.Read(b)
	s.n += int64(n)
	s.h.Write(b[:n])
	return n, err
}

func (s *hashingReader) checksum() Checksum { return Checksum{s.n, hex.EncodeToString(s.h.Sum(nil))} }

// HashFile returns the checksum of a file that has no rows, such as a teacher's vectors. cache is a folder for checksums,
// so that a large file is read only once. With "" none is kept.
func HashFile(ctx context.Context, path, cache string) (Checksum, error) {
	f, err := os.Open(path)
	if err != nil {
		return Checksum{}, err
	}
	defer f.Close()
	now, err := stamp.OfFile(f)
	if err != nil {
		return Checksum{}, err
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return Checksum{}, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", whole, now))
	known := filepath.Join(cache, fmt.Sprintf("%x.sum.json", key[:12]))
	if cache == "" {
		known = ""
	}
	var sum Checksum
	if b, err := os.ReadFile(known); err == nil && json.Unmarshal(b, &sum) == nil && len(sum.SHA256) == 2*sha256.Size {
		return sum, nil
	}
	s := newHashingReader(ctx, f)
	if _, err := io.Copy(io.Discard, s); err != nil {
		return Checksum{}, fmt.Errorf("%s: %w", path, err)
	}
	if known == "" {
		return s.checksum(), nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Checksum{}, err
	}
	return s.checksum(), atomicdir.WriteJSON(known, s.checksum())
}
