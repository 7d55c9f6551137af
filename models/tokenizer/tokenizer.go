// Package tokenizer turns texts into token ids as the tokenizer.json of a Hugging Face folder says. It wraps
// daulet/tokenizers, the Rust library behind the Python one, and adds truncation and special tokens.
//
//	t, err := tokenizer.Open("models/all-MiniLM-L6-v2")
//	defer t.Close()
//	ids := t.Encode("Hello world", 128) // [CLS] hello world [SEP]
package tokenizer

/*
#cgo LDFLAGS: -L${SRCDIR}/../../.rag-retrieval/lib
*/
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/daulet/tokenizers"
)

// File is the name of the tokenizer in a Hugging Face folder; VocabFile is what older WordPiece folders have alone.
const (
	File      = "tokenizer.json"
	VocabFile = "vocab.txt"
)

// Tokenizer is safe for use by several goroutines.
type Tokenizer struct {
	t            *tokenizers.Tokenizer
	single, pair template
	largest      int64  // of the ids
	breaks       string // characters that part words: begin
	path         string // of the file
	made         []byte // the tokenizer.json that was made of a vocab.txt
}

// Open reads the tokenizer of a folder: tokenizer.json, or a WordPiece tokenizer made of vocab.txt.
func Open(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, File)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(filepath.Join(dir, VocabFile)); !errors.Is(statErr, fs.ErrNotExist) {
			path = filepath.Join(dir, VocabFile)
			b, err = fromVocabulary(dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the tokenizer: %w", err)
	}
	t, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.path = path
	if filepath.Base(path) == VocabFile {
		t.made = b
	}
	return t, nil
}

func parse(b []byte) (*Tokenizer, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	single, pair, err := templates(file["post_processor"])
	if err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	// Padding and truncation stored in the file would be applied silently.
	file["padding"], file["truncation"] = json.RawMessage("null"), json.RawMessage("null")
	clean, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	v, err := readVocabulary(file)
	if err != nil {
		return nil, err
	}
	t, err := tokenizers.FromBytes(clean)
	if err != nil {
		return nil, err
	}
	out := &Tokenizer{t: t, single: single, pair: pair, largest: v.largest()}
	out.setBreaks(file, v.Added)
	return out, nil
}

// Encode gives a text's token ids with special tokens, at most maxLength of them: the text is cut at its end.
func (t *Tokenizer) Encode(text string, maxLength int) []int64 {
	room := max(0, maxLength-t.single.specials())
	ids, _ := t.single.fill(t.tokens(text, room), nil)
	return ids
}

// tokens gives the first room tokens of a text.
func (t *Tokenizer) tokens(text string, room int) []uint32 {
	ids := t.prefix(clean(text), room)
	return ids[:min(room, len(ids))]
}

// clean replaces NULs, and bytes that are no UTF-8: the library reads C strings, which a NUL would end. Both characters are
// control characters to BERT.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Token is the text of special token number i around a single text.
func (t *Tokenizer) Token(i int) (string, error) {
	for _, p := range t.single {
		if i < len(p.ids) {
			return t.t.Decode([]uint32{uint32(p.ids[i])}, false), nil
		}
		i -= len(p.ids)
	}
	return "", fmt.Errorf("the tokenizer puts %d special tokens around a text", t.Specials())
}

// Save writes tokenizer.json into a folder if the tokenizer was made of a vocab.txt alone; otherwise the folder's own is
// to be copied.
func (t *Tokenizer) Save(dir string) error {
	if t.made == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, File), t.made, 0o644)
}

// Specials is the number of tokens that Encode adds to every text.
func (t *Tokenizer) Specials() int { return t.single.specials() }

// PairSpecials is the number of tokens that EncodePair adds to every pair.
func (t *Tokenizer) PairSpecials() int { return t.pair.specials() }

// Check says whether every id and every token type that the tokenizer can give lies in tables of so many rows; a table of
// types of less than two rows is not read. Ids may have gaps, and special tokens any id.
func (t *Tokenizer) Check(ids, types int64) error {
	if t.largest >= ids {
		return fmt.Errorf("the tokenizer has the token id %d, but vocab_size in config.json is %d", t.largest, ids)
	}
	for _, p := range slices.Concat(t.single, t.pair) {
		for _, id := range p.ids {
			if id < 0 || id >= ids {
				return fmt.Errorf("the tokenizer's post_processor has the token id %d, but vocab_size in config.json is %d", id, ids)
			}
		}
		if types > 1 && (p.kind < 0 || p.kind >= types) {
			return fmt.Errorf("the tokenizer's post_processor has the token type %d, but type_vocab_size in config.json is %d", p.kind, types)
		}
	}
	return nil
}

// IDs are a text's token ids, without special tokens around it.
func (t *Tokenizer) IDs(text string) []int64 { return appendIDs(nil, t.tokens(text, math.MaxInt32)) }

// Lookup gives the ids of words that are entries of the vocabulary as they stand, without tokenizing them; others are
// left out.
func (t *Tokenizer) Lookup(words ...string) (map[string]int64, error) {
	b := t.made
	if b == nil {
		var err error
		if b, err = os.ReadFile(t.path); err != nil {
			return nil, err
		}
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	v, err := readVocabulary(file)
	return v.lookup(words), err
}

// Close frees the tokenizer's native memory.
func (t *Tokenizer) Close() error {
	if t == nil || t.t == nil {
		return nil
	}
	err := t.t.Close()
	t.t = nil
	return err
}
