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
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/daulet/tokenizers"
)

// File is the name of the tokenizer in a Hugging Face folder.
const File = "tokenizer.json"

// Tokenizer is safe for use by several goroutines.
type Tokenizer struct {
	t              *tokenizers.Tokenizer
	before, behind []int64 // the special tokens around a single text
}

// Open reads the tokenizer of a folder.
func Open(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, File)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the tokenizer: %w", err)
	}
	t, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func parse(b []byte) (*Tokenizer, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	before, behind, err := specials(file["post_processor"])
	if err != nil {
		return nil, err
	}
	// Padding and truncation stored in the file would be applied silently.
	file["padding"], file["truncation"] = json.RawMessage("null"), json.RawMessage("null")
	clean, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	t, err := tokenizers.FromBytes(clean)
	if err != nil {
		return nil, err
	}
	return &Tokenizer{t, before, behind}, nil
}

// specials reads the tokens that the post-processor puts around a single text.
func specials(raw json.RawMessage) (before, behind []int64, err error) {
	var p struct {
		Type   string
		Single []struct {
			SpecialToken *struct{ ID string }
			Sequence     *struct{ ID string }
		}
		SpecialTokens map[string]struct{ IDs []int64 } `json:"special_tokens"`
		CLS, SEP      []json.RawMessage
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, nil, fmt.Errorf("post_processor: %w", err)
	}
	switch p.Type {
	case "TemplateProcessing":
		to := &before
		for _, item := range p.Single {
			switch {
			case item.Sequence != nil:
				to = &behind
			case item.SpecialToken != nil:
				ids := p.SpecialTokens[item.SpecialToken.ID].IDs
				if len(ids) == 0 {
					return nil, nil, fmt.Errorf("post_processor: special token %q has no id", item.SpecialToken.ID)
				}
				*to = append(*to, ids...)
			}
		}
		return before, behind, nil
	case "BertProcessing", "RobertaProcessing":
		for _, s := range []struct {
			raw []json.RawMessage
			to  *[]int64
		}{{p.CLS, &before}, {p.SEP, &behind}} {
			var id int64
			if len(s.raw) != 2 || json.Unmarshal(s.raw[1], &id) != nil {
				return nil, nil, fmt.Errorf("post_processor: want [token, id] for cls and sep")
			}
			*s.to = append(*s.to, id)
		}
		return before, behind, nil
	}
	return nil, nil, fmt.Errorf("post_processor is of type %q, want TemplateProcessing, BertProcessing or RobertaProcessing", p.Type)
}

// Encode gives a text's token ids with special tokens, at most maxLength of them: the text is cut at its end.
func (t *Tokenizer) Encode(text string, maxLength int) []int64 {
	// The library reads C strings: a NUL would end the text. Both characters are control characters to BERT.
	text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	room := max(0, maxLength-len(t.before)-len(t.behind))
	ids := t.prefix(text, room)
	if len(ids) > room {
		ids = ids[:room]
	}
	out := make([]int64, 0, len(ids)+len(t.before)+len(t.behind))
	out = append(out, t.before...)
	for _, id := range ids {
		out = append(out, int64(id))
	}
	return append(out, t.behind...)
}

// prefix gives at least the first room tokens of a text, or all it has. Of a long text only a beginning is tokenized,
// cut before white space, where no token reaches across.
func (t *Tokenizer) prefix(text string, room int) []uint32 {
	for n := 32 * (room + 1); n < len(text); n *= 4 {
		cut := strings.LastIndexAny(text[:n], " \t\n")
		if cut <= 0 {
			continue
		}
		if ids, _ := t.t.Encode(text[:cut], false); len(ids) >= room {
			return ids
		}
	}
	ids, _ := t.t.Encode(text, false)
	return ids
}

// Specials is the number of tokens that Encode adds to every text.
func (t *Tokenizer) Specials() int { return len(t.before) + len(t.behind) }

// Close frees the tokenizer's native memory.
func (t *Tokenizer) Close() error {
	if t == nil || t.t == nil {
		return nil
	}
	err := t.t.Close()
	t.t = nil
	return err
}
