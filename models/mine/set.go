package mine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"rag-retrieval-go/internal/corpus"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/prompt"
)

// Set is what is mined: distinct queries with their positives, and the distinct documents that are searched. Texts stay on disk.
// Several goroutines may read it.
type Set struct {
	rows *data.Dataset  // one example for each row
	docs *corpus.Corpus // nil: the positives are the documents

	queries   []query
	documents []place
	positives int // pairs of a query and a distinct positive
	mostRows  int // of any query
	hash      string
	known     map[digest]int32 // the documents' numbers; nil: not kept, see SetOptions.Find
}

// query is a distinct query: the same text with the same prompt.
type query struct {
	row       int32 // the first that has it
	equal     int32 // the document that equals its text, or -1
	key       uint64
	positives []int32 // documents, in the order of the rows
}

// place says where a document's text is: in the corpus, or in a row's "pos".
type place struct {
	row int32 // -1: in the corpus
	at  int32
}

// SetOptions say how files are read.
type SetOptions struct {
	Cache string // a folder for indices of training files; "": none is kept
	Note  func(line string)
	Find  bool // Find will be called
}

// OpenSet reads training rows with "query" and "pos", and the documents of a corpus; without a corpus the distinct positives are the
// documents. A bad row is an error that names file and line.
func OpenSet(ctx context.Context, rows, docs []string, o SetOptions) (s *Set, err error) {
	s = &Set{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	s.rows, err = data.Open(ctx, rows, data.Options{Examples: oneExample, Cache: o.Cache, Key: "mine", Note: o.Note})
	if err != nil {
		return s, err
	}
	if len(docs) > 0 {
		c, err := corpus.Open(docs...) // of an error it has closed everything
		if err != nil {
			return s, err
		}
		s.docs = c
	}
	return s, s.read(ctx, o.Find)
}

// oneExample accepts a row with positives. Its negatives and scores are not read.
func oneExample(r data.Row) (int, error) {
	if f := r.Form(); f != data.Pairs && f != data.Scored {
		return 0, fmt.Errorf("mining needs rows of %s", data.Pairs)
	}
	return 1, nil
}

// digest stands for a text: equal ones have the same.
type digest [16]byte

func digestOf(text string) digest {
	sum := sha256.Sum256([]byte(text))
	return digest(sum[:len(digest{})])
}

// read finds distinct queries and documents. It numbers the documents as sentence-transformers does: those of the corpus, then the
// positives that are not among them.
func (s *Set) read(ctx context.Context, keep bool) error {
	known, all := map[digest]int32{}, sha256.New()
	add := func(text string, at place) int32 {
		d := digestOf(text)
		i, ok := known[d]
		if !ok {
			i = int32(len(s.documents))
			known[d] = i
			s.documents = append(s.documents, at)
			all.Write(d[:])
		}
		return i
	}
	if s.docs != nil {
		for i := range s.docs.Len() {
			d, err := s.docs.Document(i)
			if err != nil {
				return err
			}
			add(d.Passage(), place{-1, int32(i)})
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if err := s.readRows(ctx, add); err != nil {
		return err
	}
	for i := range s.queries {
		x, err := s.rows.Example(int(s.queries[i].row))
		if err != nil {
			return err
		}
		equal, ok := known[digestOf(*x.Row.Query)]
		if !ok {
			equal = -1
		}
		s.queries[i].equal = equal
	}
	s.hash = hex.EncodeToString(all.Sum(nil))
	if keep {
		s.known = known
	}
	return nil
}

// readRows reads queries and positives. add numbers a document.
func (s *Set) readRows(ctx context.Context, add func(text string, at place) int32) error {
	known, rows := map[digest]int32{}, []int32(nil)
	for row := range s.rows.Len() {
		x, err := s.rows.Example(row)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		d := digestOf(x.Row.Prompt + "\x00" + *x.Row.Query)
		i, ok := known[d]
		if !ok {
			i = int32(len(s.queries))
			known[d] = i
			s.queries, rows = append(s.queries, query{row: int32(row), key: keyOf(d)}), append(rows, 0)
		}
		q := &s.queries[i]
		for at, text := range x.Row.Pos {
			rows[i]++
			s.mostRows = max(s.mostRows, int(rows[i]))
			if n := add(text, place{int32(row), int32(at)}); !has(q.positives, n) {
				q.positives = append(q.positives, n)
				s.positives++
			}
		}
	}
	return nil
}

// keyOf is a query's key for random draws.
func keyOf(d digest) (key uint64) {
	for _, b := range d[:8] {
		key = key<<8 | uint64(b)
	}
	return key
}

func has(list []int32, x int32) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// Queries is the number of distinct queries.
func (s *Set) Queries() int { return len(s.queries) }

// Len is the number of distinct documents. With it, Passage, Location and Hash, a Set is an index.Source.
func (s *Set) Len() int { return len(s.documents) }

// Hash stands for all documents in their order.
func (s *Set) Hash() string { return s.hash }

// Checksums are those of the training files.
func (s *Set) Checksums() []data.Checksum { return s.rows.Checksums() }

// Passage reads a document.
func (s *Set) Passage(document int) (string, error) {
	p := s.documents[document]
	if p.row < 0 {
		d, err := s.docs.Document(int(p.at))
		return d.Passage(), err
	}
	x, err := s.rows.Example(int(p.row))
	if err != nil {
		return "", err
	}
	return x.Row.Pos[p.at], nil
}

// Find finds a document by its text.
func (s *Set) Find(text string) (document int, ok bool) {
	i, ok := s.known[digestOf(text)]
	return int(i), ok
}

// Location says where a document is from, such as "docs.jsonl:7".
func (s *Set) Location(document int) string {
	p := s.documents[document]
	if p.row < 0 {
		return s.docs.Location(int(p.at))
	}
	return s.rows.Location(int(p.row))
}

// QueryText reads a query.
func (s *Set) QueryText(i int) (prompt.Text, error) {
	x, err := s.rows.Example(int(s.queries[i].row))
	if err != nil {
		return prompt.Text{}, err
	}
	return x.Row.QueryText(), nil
}

// QueryLocation says where a query is from, such as "pairs.jsonl:7".
func (s *Set) QueryLocation(i int) string { return s.rows.Location(int(s.queries[i].row)) }

// Close closes the files.
func (s *Set) Close() error {
	var docs error
	if s.docs != nil {
		docs = s.docs.Close()
	}
	return errors.Join(docs, s.rows.Close())
}
