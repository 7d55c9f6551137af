// Package embedding is the bi-encoder: one vector per text, compared by cosine. It reads and writes
// sentence-transformers folders, gives the trainer its loss and batches, and encodes texts.
package embedding

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
)

// Pooling says how token vectors become one.
type Pooling string

// The poolings that this package does.
const (
	Mean Pooling = "mean" // of all tokens, special ones included
	CLS  Pooling = "cls"  // the first token's
	Last Pooling = "last" // the last token's
)

// Config is what makes an encoder an embedding model.
type Config struct {
	Pooling      Pooling
	Normalize    bool // vectors of length one
	MaxSeqLength int  // tokens; the model's own limit for inference
	Dense        *Dense
	Formats      prompt.Formats // what stands around texts: the prompts
}

// SetPrompts replaces the prompts that are not nil.
func (c *Config) SetPrompts(query, passage *string) {
	for to, p := range map[*prompt.Format]*string{&c.Formats.Query: query, &c.Formats.Document: passage} {
		if p != nil {
			to.Before = *p
		}
	}
}

// module is an entry of sentence-transformers' modules.json.
type module struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// LoadConfig reads a sentence-transformers folder. A plain Hugging Face folder without modules.json is read as
// sentence-transformers does: mean pooling, not normalised; this package normalises it all the same, since it
// compares by cosine.
func LoadConfig(dir string, maxLength int) (Config, error) {
	c := Config{Pooling: Mean, Normalize: true, MaxSeqLength: maxLength}
	if kind, err := card.Detect(dir); err != nil || kind != card.Embedding {
		return c, err // the modules of another kind say nothing of this one
	}
	var err error
	if c.Formats, err = card.Formats(dir, card.Embedding); err != nil {
		return c, err
	}
	path := filepath.Join(dir, "modules.json")
	var modules []module
	if err := hf.ReadJSON(path, &modules); errors.Is(err, fs.ErrNotExist) {
		return c, nil
	} else if err != nil {
		return c, err
	}
	for _, m := range modules {
		var err error
		switch m.Type[strings.LastIndex(m.Type, ".")+1:] {
		case "Transformer":
			err = c.readLength(filepath.Join(dir, m.Path))
		case "Pooling":
			err = c.readPooling(filepath.Join(dir, m.Path, "config.json"))
		case "Dense":
			if c.Dense != nil {
				err = fmt.Errorf("%s: a second Dense module is not supported", path)
			} else {
				c.Dense, err = readDense(dir, m.Path)
			}
		case "Normalize":
		default:
			err = fmt.Errorf("%s: module %q is not supported, want Transformer, Pooling, Dense and Normalize", path, m.Type)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *Config) readLength(dir string) error {
	path := filepath.Join(dir, "sentence_bert_config.json")
	var s struct {
		MaxSeqLength *int `json:"max_seq_length"`
	}
	if err := hf.ReadJSON(path, &s); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if s.MaxSeqLength != nil {
		if *s.MaxSeqLength < 3 || *s.MaxSeqLength > c.MaxSeqLength {
			return fmt.Errorf("%s: max_seq_length is %d, want 3 to %d", path, *s.MaxSeqLength, c.MaxSeqLength)
		}
		c.MaxSeqLength = *s.MaxSeqLength
	}
	return nil
}

// readPooling reads both generations of the file: one flag per mode, and pooling_mode since sentence-transformers 6.
func (c *Config) readPooling(path string) error {
	var p struct {
		CLS  bool            `json:"pooling_mode_cls_token"`
		Mean bool            `json:"pooling_mode_mean_tokens"`
		Last bool            `json:"pooling_mode_lasttoken"`
		Mode json.RawMessage `json:"pooling_mode"`
	}
	if err := hf.ReadJSON(path, &p); err != nil {
		return err
	}
	var mode string
	if len(p.Mode) > 0 && json.Unmarshal(p.Mode, &mode) != nil {
		return fmt.Errorf("%s: pooling_mode is %s, want \"mean\", \"cls\" or \"lasttoken\"", path, p.Mode)
	}
	found := map[Pooling]bool{
		CLS: p.CLS || mode == "cls", Mean: p.Mean || mode == "mean", Last: p.Last || mode == "lasttoken",
	}
	count := 0
	for kind, on := range found {
		if on {
			count++
			c.Pooling = kind
		}
	}
	if count != 1 {
		return fmt.Errorf("%s: want mean, cls or lasttoken pooling, alone", path)
	}
	return nil
}
