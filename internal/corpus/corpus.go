// Package corpus reads the documents of a retrieval corpus: JSON lines in BEIR's and MTEB's form, such as
// {"_id": "d1", "title": "…", "text": "…", "metadata": {"lang": "zh"}}. "id" is another name of "_id", "title" may be missing,
// and all other fields count as metadata.
//
//	c, err := corpus.Open("docs.jsonl")   // one pass: checks every row and finds where it starts
//	defer c.Close()
//	d, err := c.Document(41)              // reads only that row
//	fmt.Println(d.ID, d.Passage())
//
// Memory holds about 50 bytes for each document, whatever its length.
package corpus

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/cespare/xxhash/v2"

	"rag-retrieval-go/internal/jsonl"
)

// Document is one row of a corpus.
type Document struct {
	ID    string
	Title string
	Text  string
	// Metadata is a JSON object of the row's other fields, with sorted keys. It is nil if there are none.
	Metadata json.RawMessage
}

// Passage is what a model reads of a document: title and text with a space between them, as in MTEB.
func (d Document) Passage() string { return strings.TrimSpace(d.Title + " " + d.Text) }

// The keys of a row that are not metadata.
const (
	idKey       = "_id"
	plainIDKey  = "id"
	titleKey    = "title"
	textKey     = "text"
	metadataKey = "metadata"
)

// UnmarshalJSON reads a row. It is an error if the row has no id or no text.
func (d *Document) UnmarshalJSON(b []byte) error {
	var row map[string]json.RawMessage
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	if row == nil {
		return errors.New("the row is null, want an object")
	}
	*d = Document{}
	var err error
	for _, key := range []string{plainIDKey, idKey} { // _id wins
		if raw, ok := row[key]; ok && string(raw) != "null" {
			if d.ID, err = idOf(key, raw); err != nil {
				return err
			}
		}
		delete(row, key)
	}
	if d.ID == "" {
		return fmt.Errorf("%q (or %q) is missing or empty", idKey, plainIDKey)
	}
	for key, to := range map[string]*string{titleKey: &d.Title, textKey: &d.Text} {
		raw, ok := row[key]
		if !ok || string(raw) == "null" {
			delete(row, key)
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return fmt.Errorf("%q of the document %q is %.40s, want a text", key, d.ID, raw)
		}
		delete(row, key)
	}
	if d.Passage() == "" {
		return fmt.Errorf("%q of the document %q is missing or empty", textKey, d.ID)
	}
	d.Metadata, err = metadataOf(row)
	return err
}

// idOf reads an id, which is a text or a whole number.
func idOf(key string, raw json.RawMessage) (string, error) {
	var text string
	var number json.Number
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	if json.Unmarshal(raw, &number) == nil && !strings.ContainsAny(number.String(), ".eE") {
		return number.String(), nil
	}
	return "", fmt.Errorf("%q is %.40s, want a text or a whole number", key, raw)
}

// metadataOf joins the row's other fields and those of "metadata", which win where both have a name.
func metadataOf(row map[string]json.RawMessage) (json.RawMessage, error) {
	if raw, ok := row[metadataKey]; ok {
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) == nil { // a text, say, stays a field named metadata
			delete(row, metadataKey)
			for key, x := range inner {
				row[key] = x
			}
		}
	}
	if len(row) == 0 {
		return nil, nil
	}
	return json.Marshal(row)
}

// MarshalJSON writes a row that UnmarshalJSON reads.
func (d Document) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID       string          `json:"_id"`
		Title    string          `json:"title,omitempty"`
		Text     string          `json:"text"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
	}{d.ID, d.Title, d.Text, d.Metadata})
}

// Corpus is a corpus on disk. Several goroutines may read it.
type Corpus struct {
	files  []*jsonl.File
	before []int // documents in the files before each file
	length int
	hash   string
	ids    map[uint64]int32 // the number of the first document whose id has the hash
	clash  map[string]int32 // the numbers of further ids with the same hash
}

// Open checks and indexes the files of a corpus. A row without id or text, and a second document with the same id, are errors
// that name file and line.
func Open(paths ...string) (c *Corpus, err error) {
	c = &Corpus{ids: map[uint64]int32{}, clash: map[string]int32{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	h := sha256.New()
	for _, path := range paths {
		f, err := jsonl.Open(path)
		if err != nil {
			return c, err
		}
		c.files, c.before = append(c.files, f), append(c.before, c.length)
		for i := range f.Len() {
			var d Document
			if err := f.Row(i, &d); err != nil {
				return c, err
			}
			if err := c.add(d, f.Location(i)); err != nil {
				return c, err
			}
			addToHash(h, d)
		}
	}
	c.hash = hex.EncodeToString(h.Sum(nil))
	return c, nil
}

// add notes the next document's id.
func (c *Corpus) add(d Document, location string) error {
	if first, ok := c.Number(d.ID); ok {
		return fmt.Errorf("%s: the id %q is that of %s too", location, d.ID, c.Location(first))
	}
	key := xxhash.Sum64String(d.ID)
	if _, taken := c.ids[key]; taken {
		c.clash[d.ID] = int32(c.length)
	} else {
		c.ids[key] = int32(c.length)
	}
	c.length++
	return nil
}

func addToHash(h hash.Hash, d Document) {
	var n [8]byte
	for _, field := range []string{d.ID, d.Title, d.Text, string(d.Metadata)} {
		binary.LittleEndian.PutUint64(n[:], uint64(len(field)))
		h.Write(n[:])
		h.Write([]byte(field))
	}
}

// Len is the number of documents.
func (c *Corpus) Len() int { return c.length }

// Hash is a SHA-256 of all documents in their order.
func (c *Corpus) Hash() string { return c.hash }

// Number finds a document by its id.
func (c *Corpus) Number(id string) (int, bool) {
	n, ok := c.ids[xxhash.Sum64String(id)]
	if !ok {
		return 0, false
	}
	if d, err := c.Document(int(n)); err == nil && d.ID == id {
		return int(n), true
	}
	n, ok = c.clash[id]
	return int(n), ok
}

// Document reads document i, from 0.
func (c *Corpus) Document(i int) (d Document, err error) {
	f, row := c.place(i)
	err = f.Row(row, &d)
	return d, err
}

// Passage reads what a model reads of document i.
func (c *Corpus) Passage(i int) (string, error) {
	d, err := c.Document(i)
	return d.Passage(), err
}

// Location returns the file and the line of document i, such as "corpus.jsonl:42".
func (c *Corpus) Location(i int) string {
	f, row := c.place(i)
	return f.Location(row)
}

func (c *Corpus) place(i int) (*jsonl.File, int) {
	k := len(c.before) - 1
	for c.before[k] > i {
		k--
	}
	return c.files[k], i - c.before[k]
}

// Close closes the files. Further calls do nothing.
func (c *Corpus) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	c.files = nil
	return errors.Join(errs...)
}
