package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/dist/disttest"
)

// texts is a Source in memory.
type texts []string

func (t texts) Len() int                      { return len(t) }
func (t texts) Passage(i int) (string, error) { return t[i], nil }
func (t texts) Location(i int) string         { return fmt.Sprintf("texts:%d", i+1) }
func (t texts) Hash() string                  { return fmt.Sprint(fnv.New64a().Sum([]byte(strings.Join(t, "\n")))) }

func numbered(n int) texts {
	out := make(texts, n)
	for i := range out {
		out[i] = fmt.Sprintf("text %d", i)
	}
	return out
}

// hashEmbedder makes a vector of length one of a text's hash.
type hashEmbedder struct {
	encoded int // texts so far
	limit   int // 0: none; else Encode fails when so many are exceeded
	tokens  bool
	nan     string // a text whose vector is no number
}

var errLimit = errors.New("interrupted")

func (e *hashEmbedder) Encode(ctx context.Context, list []prompt.Text, o retriever.EncodeOptions) ([]retriever.Embedding, error) {
	if e.limit > 0 && e.encoded+len(list) > e.limit {
		return nil, errLimit
	}
	e.encoded += len(list)
	var out []retriever.Embedding
	for i, t := range list {
		if t.Text == "" {
			return nil, &retriever.TextError{Index: i, Err: errors.New("no token")}
		}
		h := fnv.New64a()
		h.Write([]byte(t.Text))
		angle := float64(h.Sum64()%1e6) / 1e6 * 2 * math.Pi
		x := retriever.Embedding{Values: []float32{float32(math.Cos(angle)), float32(math.Sin(angle)), 0}, Tokens: 1}
		if e.tokens {
			x.TokenIDs = []int64{1}
		}
		if e.nan != "" && t.Text == e.nan {
			x.Values[1] = float32(math.NaN())
		}
		out = append(out, x)
	}
	return out, ctx.Err()
}

func (e *hashEmbedder) Similarity(retriever.Embedding, []retriever.Embedding) ([]float32, error) {
	return nil, errors.New("not used")
}

func (e *hashEmbedder) Info() retriever.Info {
	return retriever.Info{Ref: "hash", Kind: modelcard.Embedding, Dimension: 3}
}

func encodeAll(t *testing.T, x Encode) []float32 {
	t.Helper()
	v, err := x.Vectors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return slices.Clone(v.Rows(0, v.Len()))
}

func TestEncodeGoesOn(t *testing.T) {
	const n = 3*ChunkLen + 17
	source := numbered(n)
	want := encodeAll(t, Encode{Dir: t.TempDir(), Source: source, Embedder: &hashEmbedder{}, Fingerprint: "f"})
	if len(want) != 3*n {
		t.Fatalf("%d numbers, want %d", len(want), 3*n)
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"none": func(*testing.T, string) {},
		"a chunk without checksum": func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, sumsFile), 8)
		},
		"half a chunk": func(t *testing.T, dir string) {
			truncate(t, filepath.Join(dir, VectorsFile), headerLen+4*3*(ChunkLen+5))
		},
		"other bytes": func(t *testing.T, dir string) {
			path := filepath.Join(dir, VectorsFile)
			b, err := os.ReadFile(path)
			if err == nil {
				b[headerLen+4*3*ChunkLen+1]++
				err = os.WriteFile(path, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"no header": func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, VectorsFile), 5) },
	} {
		t.Run(name, func(t *testing.T) {
			x := Encode{Dir: t.TempDir(), Source: source, Embedder: &hashEmbedder{limit: 2*ChunkLen + 1}, Fingerprint: "f"}
			if _, err := x.Vectors(context.Background()); !errors.Is(err, errLimit) {
				t.Fatal(err)
			}
			if _, err := OpenVectors(x.Dir); err == nil || !strings.Contains(err.Error(), "run it again to go on") {
				t.Errorf("vectors that are not whole: %v", err)
			}
			damage(t, x.Dir)
			e := &hashEmbedder{}
			x.Embedder = e
			if got := encodeAll(t, x); !slices.Equal(got, want) {
				t.Error("the vectors differ from those of a run that was not interrupted")
			}
			if name == "none" && e.encoded != n-2*ChunkLen {
				t.Errorf("%d texts were encoded again, want %d", e.encoded, n-2*ChunkLen)
			}
			e.encoded = 0
			if got := encodeAll(t, x); !slices.Equal(got, want) || e.encoded != 0 {
				t.Errorf("whole vectors: %d texts were encoded again", e.encoded)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func TestOtherVectorsAreNoticed(t *testing.T) {
	x := Encode{Dir: t.TempDir(), Source: numbered(5), Embedder: &hashEmbedder{}, Fingerprint: "f"}
	encodeAll(t, x)
	for name, change := range map[string]func(x *Encode){
		"model":     func(x *Encode) { x.Fingerprint = "g" },
		"texts":     func(x *Encode) { x.Source = texts{"a", "b", "c", "d", "e"} },
		"dimension": func(x *Encode) { x.Dimension = 2 },
	} {
		other := x
		change(&other)
		if _, err := other.Vectors(context.Background()); !errors.Is(err, ErrOtherVectors) {
			t.Errorf("%s: %v, want %v", name, err, ErrOtherVectors)
		}
	}
	x.Source, x.Fresh = texts{"a"}, true
	if got := encodeAll(t, x); len(got) != 3 {
		t.Errorf("%d numbers, want 3", len(got))
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		source   texts
		embedder *hashEmbedder
		want     string
	}{
		"no passages":   {nil, &hashEmbedder{}, "no passages"},
		"an empty text": {texts{"a", ""}, &hashEmbedder{}, "texts:2: no token"},
		"token vectors": {texts{"a"}, &hashEmbedder{tokens: true}, "want an embedding model"},
		"not a number":  {texts{"a", "b"}, &hashEmbedder{nan: "b"}, "texts:2: the model's vector has a value that is no number"},
	} {
		_, err := Encode{Dir: t.TempDir(), Source: x.source, Embedder: x.embedder}.Vectors(context.Background())
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
	}
	dir := t.TempDir()
	lock, err := filelock.Try(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	var held *filelock.Held
	if _, err := (Encode{Dir: dir, Source: numbered(1), Embedder: &hashEmbedder{}}).Vectors(context.Background()); !errors.As(err, &held) {
		t.Errorf("a folder that is being written: %v", err)
	}
}

// numpy reads the file: its header is a multiple of 64 bytes long and says so.
func TestHeader(t *testing.T) {
	h := header{123456789, 1024}
	b := h.encode()
	if len(b) != headerLen || len(b)%64 != 0 || b[len(b)-1] != '\n' {
		t.Errorf("the header has %d bytes: %q", len(b), b)
	}
	if n := binary.LittleEndian.Uint16(b[len(npyMagic):]); int(n)+len(npyMagic)+2 != headerLen {
		t.Errorf("the header says that it has %d bytes", n)
	}
	if got, err := parseHeader(b); err != nil || got != h {
		t.Errorf("%v, %v, want %v", got, err, h)
	}
	if _, err := parseHeader(bytes.Replace(b, []byte("<f4"), []byte("<f8"), 1)); err == nil {
		t.Error("float64 was read as float32")
	}
	for _, shape := range []string{"(5, 0)", "(4611686018427387905, 1)", "(1, 4611686018427387905)", "(99999999999999999999, 1)"} {
		damaged := header{5, 3}.encode()
		copy(damaged[bytes.IndexByte(damaged, '('):], shape+", } ")
		if h, err := parseHeader(damaged); err == nil || h.bytes() != 0 {
			t.Errorf("shape %s: %v, %v", shape, h, err)
		}
	}
}

// Vectors that are open stay as they are while the folder gets other ones.
func TestFreshLeavesOpenVectors(t *testing.T) {
	x := Encode{Dir: t.TempDir(), Source: numbered(ChunkLen), Embedder: &hashEmbedder{}, Fingerprint: "f"}
	v, err := x.Vectors(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	before := slices.Clone(v.Rows(0, v.Len()))
	v.release(0, v.Len())
	x.Source, x.Fresh = texts{"a"}, true
	encodeAll(t, x)
	if !slices.Equal(v.Rows(0, v.Len()), before) { // of a truncated file, this would end the process
		t.Error("the open vectors have changed")
	}
}

// Ranks write the same vectors as one process, and rank 0's disk error ends all.
func TestRanksEncode(t *testing.T) {
	const n = 2*ChunkLen + 3
	want := encodeAll(t, Encode{Dir: t.TempDir(), Source: numbered(n), Embedder: &hashEmbedder{}})
	dir, got := t.TempDir(), make([][]float32, 3)
	errs := disttest.Ranks(3, func(c dist.Comm) error {
		v, err := Encode{Dir: dir, Source: numbered(n), Embedder: &hashEmbedder{}, Ranks: dist.NewDealer(c)}.Vectors(context.Background())
		if err != nil {
			return err
		}
		defer v.Close()
		got[c.Rank()] = slices.Clone(v.Rows(0, n))
		return nil
	})
	for rank, err := range errs {
		if err != nil || !slices.Equal(got[rank], want) {
			t.Errorf("rank %d: %v, or other vectors", rank, err)
		}
	}
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	errs = disttest.Ranks(2, func(c dist.Comm) error {
		_, err := Encode{Dir: blocked, Source: numbered(3), Embedder: &hashEmbedder{}, Ranks: dist.NewDealer(c)}.Vectors(context.Background())
		return err
	})
	for rank, err := range errs {
		if err == nil {
			t.Errorf("rank %d has no error", rank)
		}
	}
}
