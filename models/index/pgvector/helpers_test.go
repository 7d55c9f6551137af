package pgvector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/index/pgvector/pgtest"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// source is a corpus in memory.
type source []corpus.Document

func (s source) Len() int                                { return len(s) }
func (s source) Document(i int) (corpus.Document, error) { return s[i], nil }
func (s source) Passage(i int) (string, error)           { return s[i].Passage(), nil }
func (s source) Location(i int) string                   { return fmt.Sprintf("corpus.jsonl:%d", i+1) }
func (s source) Hash() string {
	b, _ := json.Marshal(s) // texts and numbers only
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// madeUp makes documents of words whose frequencies follow Zipf's law, and a language and a year for each.
func madeUp(n, words int) source {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	zipf := rand.NewZipf(r, 1.05, 4, 50000)
	out := make(source, n)
	for i := range out {
		d := corpus.Document{ID: fmt.Sprint("d", i), Title: fmt.Sprint("title ", i%7)}
		for range words/2 + r.IntN(words) {
			d.Text += fmt.Sprint("w", zipf.Uint64(), " ")
		}
		if i%5 > 0 {
			d.Metadata = json.RawMessage(fmt.Sprintf(`{"lang":%q,"year":%d}`, []string{"zh", "en"}[i%2], 2000+i%20))
		}
		out[i] = d
	}
	return out
}

// hashed is an Embedder whose vectors are drawn from the text's hash.
type hashed struct {
	dimension int
	name      string
	encoded   int
	before    func(texts int) error // what happens before each call of Encode; it may be nil
}

func (e *hashed) Info() retriever.Info {
	return retriever.Info{Ref: "models/" + e.name, Dimension: int64(e.dimension)}
}

func (e *hashed) Similarity(retriever.Embedding, []retriever.Embedding) ([]float32, error) {
	panic("not used")
}

func (e *hashed) Encode(ctx context.Context, texts []prompt.Text, o retriever.EncodeOptions) ([]retriever.Embedding, error) {
	if e.before != nil {
		if err := e.before(e.encoded); err != nil {
			return nil, err
		}
	}
	out := make([]retriever.Embedding, len(texts))
	for i, t := range texts {
		out[i].Values = vectorOf(e.name+t.Text, e.dimension)
	}
	e.encoded += len(texts)
	return out, ctx.Err()
}

func vectorOf(text string, dimension int) []float32 {
	r := rand.New(rand.NewChaCha8(sha256.Sum256([]byte(text))))
	v, sum := make([]float32, dimension), 0.0
	for i := range v {
		v[i] = float32(r.NormFloat64())
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// built makes a collection of documents in a database of its own.
func built(t testing.TB, docs source, dimension int, ann ANN) *Store {
	t.Helper()
	s := open(t, pgtest.URL(t))
	check(t, s.Build(t.Context(), buildOf(docs, dimension, ann)))
	return s
}

func buildOf(docs source, dimension int, ann ANN) Build {
	return Build{Source: docs, Embedder: &hashed{dimension: dimension, name: "m"}, Fingerprint: "f", ANN: ann}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
