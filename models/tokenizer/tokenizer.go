// Package tokenizer turns texts into token ids with the tokenizer.json of a Hugging Face folder. It wraps
// daulet/tokenizers, the Rust library that Python's tokenizers uses too, and adds truncation, pairs and special tokens.
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

// File is the tokenizer's file in a Hugging Face folder. Older WordPiece folders have only VocabFile.
const (
	File      = "tokenizer.json"
	VocabFile = "vocab.txt"
)

// Tokenizer is safe for use by several goroutines.
type Tokenizer struct {
	t             *tokenizers.Tokenizer
	single, pair  template
	largestID     int64      // the largest token id
	wordBreaks    string     // characters at which words are always separated; see setWordBreaks
	words         *wordPiece // nil for tokenizers that are not BERT's
	path          string     // of the file that was read
	generatedFile []byte     // the tokenizer.json that was made from vocab.txt, or nil
	noTypes       bool       // transformers gives a model no token types, see withoutTypes
}

// Open reads the tokenizer of a folder from tokenizer.json or, if there is none, makes a WordPiece tokenizer from vocab.txt.
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
	t, err := parse(b, vocabSize(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.path = path
	if filepath.Base(path) == VocabFile {
		t.generatedFile = b
	}
	if t.noTypes, err = withoutTypes(dir); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// vocabSize returns vocab_size of a model's config.json beside the tokenizer, or 0 if there is none. With it, Open makes at once what
// Fit would have to make again: EmbeddingGemma's tokenizer, which has a special token too many, takes seconds to build.
func vocabSize(dir string) int64 {
	var config struct {
		Size int64 `json:"vocab_size"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || json.Unmarshal(b, &config) != nil {
		return 0 // who opens the model says what is wrong with its file
	}
	return config.Size
}

// parse makes the tokenizer of a tokenizer.json, without special tokens whose ids are at least ids, unless ids is 0.
func parse(b []byte, ids int64) (*Tokenizer, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	changed, err := dropSpecialTokens(file, ids)
	if err != nil {
		return nil, err
	}
	single, pair, err := templates(file["post_processor"])
	if err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	for _, key := range []string{"padding", "truncation"} { // the library would apply what is stored in the file
		if raw := file[key]; raw != nil && string(raw) != "null" {
			file[key], changed = json.RawMessage("null"), true
		}
	}
	if changed {
		if b, err = json.Marshal(file); err != nil {
			return nil, err
		}
	}
	v, err := readVocabulary(file)
	if err != nil {
		return nil, err
	}
	t, err := tokenizers.FromBytes(b)
	if err != nil {
		return nil, err
	}
	out := &Tokenizer{t: t, single: single, pair: pair, largestID: v.largest(), words: newWordPiece(file, v)}
	out.setWordBreaks(file, v.Added)
	return out, nil
}

// Encode returns a text's token ids with special tokens, at most maxLength. A text that is too long is cut at its end.
func (t *Tokenizer) Encode(text string, maxLength int) []int64 {
	room := max(0, maxLength-t.single.specialTokens())
	ids, _ := t.single.fill(t.tokens(text, room), nil)
	return ids
}

// tokens returns at most the first room tokens of a text.
func (t *Tokenizer) tokens(text string, room int) []uint32 {
	text = sanitize(text)
	var ids []uint32
	if t.words != nil {
		ids = t.words.tokens(text, room, t.prefix)
	} else {
		ids = t.prefix(text, room)
	}
	return ids[:min(room, len(ids))]
}

// sanitize replaces NUL characters, which would end the library's C strings, and invalid UTF-8 by U+FFFD. BERT treats both
// NUL and U+FFFD as control characters.
func sanitize(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// First is the special token that stands before every text, such as [CLS]; ok is false where none does.
func (t *Tokenizer) First() (token string, id int64, ok bool) {
	if len(t.single) == 0 || len(t.single[0].ids) == 0 {
		return "", 0, false
	}
	id = t.single[0].ids[0]
	return t.t.Decode([]uint32{uint32(id)}, false), id, true
}

// Save writes tokenizer.json into a folder if the tokenizer was made from vocab.txt. Otherwise it writes nothing, and the
// caller copies the original file.
func (t *Tokenizer) Save(dir string) error {
	if t.generatedFile == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, File), t.generatedFile, 0o644)
}

// SpecialTokens is the number of special tokens that Encode adds to a text.
func (t *Tokenizer) SpecialTokens() int { return t.single.specialTokens() }

// PairSpecialTokens is the number of special tokens that EncodePair adds to a pair.
func (t *Tokenizer) PairSpecialTokens() int { return t.pair.specialTokens() }

// withoutTypes says whether transformers gives models of a folder no token types, whatever the template says: by model_input_names in
// tokenizer_config.json, and where that is absent by the class that transformers 5 names if a tokenizer has none of its own.
func withoutTypes(dir string) (bool, error) {
	var file struct {
		Class string   `json:"tokenizer_class"`
		Names []string `json:"model_input_names"`
	}
	path := filepath.Join(dir, "tokenizer_config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if file.Names != nil {
		return !slices.Contains(file.Names, "token_type_ids"), nil
	}
	return file.Class == "TokenizersBackend", nil
}

// Fit returns an error if the tokenizer can return a token id or a token type that is outside of embedding tables with this number of
// rows. With a table of fewer than two types, and where transformers gives the model no types, all types are 0. Special tokens outside that no text is framed with are
// dropped: sentence-transformers' folders may name one that the model never had. Where it is written in a text, it is plain text.
func (t *Tokenizer) Fit(ids, types int64) error {
	if t.largestID >= ids {
		if err := t.rebuild(ids); err != nil {
			return err
		}
	}
	if t.largestID >= ids {
		return fmt.Errorf("the tokenizer has the token id %d, but vocab_size in config.json is %d", t.largestID, ids)
	}
	if types < 2 || t.noTypes {
		for _, x := range []template{t.single, t.pair} {
			for i := range x {
				x[i].typeID = 0
			}
		}
	}
	for _, p := range slices.Concat(t.single, t.pair) {
		for _, id := range p.ids {
			if id < 0 || id >= ids {
				return fmt.Errorf("the tokenizer's post_processor has the token id %d, but vocab_size in config.json is %d", id, ids)
			}
		}
		if types > 1 && (p.typeID < 0 || p.typeID >= types) {
			return fmt.Errorf("the tokenizer's post_processor has the token type %d, but type_vocab_size in config.json is %d", p.typeID, types)
		}
	}
	return nil
}

// dropSpecialTokens drops the special tokens whose ids are at least from out of a tokenizer.json, unless from is 0. It reports whether
// there were any.
func dropSpecialTokens(file map[string]json.RawMessage, from int64) (dropped bool, err error) {
	if from <= 0 || file["added_tokens"] == nil {
		return false, nil
	}
	all, kept := []json.RawMessage{}, []json.RawMessage{}
	if err := json.Unmarshal(file["added_tokens"], &all); err != nil {
		return false, fmt.Errorf("added_tokens: %w", err)
	}
	for _, raw := range all {
		var a addedToken
		if err := json.Unmarshal(raw, &a); err != nil {
			return false, fmt.Errorf("added_tokens: %w", err)
		}
		if !a.Special || a.ID < from {
			kept = append(kept, raw)
		}
	}
	if len(kept) == len(all) {
		return false, nil
	}
	file["added_tokens"], err = json.Marshal(kept)
	return true, err
}

// rebuild makes the tokenizer again, without the special tokens whose ids are at least from.
func (t *Tokenizer) rebuild(from int64) error {
	b, err := t.bytes()
	if err != nil {
		return err
	}
	without, err := parse(b, from)
	if err != nil {
		return fmt.Errorf("%s, without the special tokens from the id %d on: %w", t.path, from, err)
	}
	without.path, without.generatedFile, without.noTypes = t.path, t.generatedFile, t.noTypes
	err = t.t.Close()
	*t = *without
	return err
}

// bytes returns the tokenizer.json.
func (t *Tokenizer) bytes() ([]byte, error) {
	if t.generatedFile != nil {
		return t.generatedFile, nil
	}
	return os.ReadFile(t.path)
}

// file has the top-level keys of tokenizer.json.
func (t *Tokenizer) file() (map[string]json.RawMessage, error) {
	b, err := t.bytes()
	if err != nil {
		return nil, err
	}
	var file map[string]json.RawMessage
	return file, json.Unmarshal(b, &file)
}

// IDs returns a text's token ids without special tokens.
func (t *Tokenizer) IDs(text string) []int64 { return appendIDs(nil, t.tokens(text, math.MaxInt32)) }

// Lookup returns the ids of words that are entries of the vocabulary. It does not tokenize them; words that are not in the
// vocabulary are missing from the result.
func (t *Tokenizer) Lookup(words ...string) (map[string]int64, error) {
	file, err := t.file()
	if err != nil {
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
