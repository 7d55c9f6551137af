package scoring

import (
	"fmt"
	"math"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/tokenizer"
)

// LongText says what is read of a text, or of a pair's passage, that has more tokens than the model takes.
type LongText int

const (
	CutEnd   LongText = iota // its beginning
	CutStart                 // its end; a pair is cut at its end in any case
	Windows                  // all of it, one row for each window, see Options.MaxWindow
	Refuse                   // nothing: that is a *LengthError
)

// LengthError is about a text or pair that was not to be cut.
type LengthError struct{ Tokens, Limit int } // with special tokens

func (e *LengthError) Error() string {
	return fmt.Sprintf("it has %d tokens, want at most %d", e.Tokens, e.Limit)
}

// Rows tokenizes a text with its format around it. Training, validation, evaluation and every command use it. It returns one row
// of at most maxLength tokens, or with Windows one row for each window of a long text.
func Rows(t *tokenizer.Tokenizer, f prompt.Formats, x prompt.Text, maxLength int, long LongText) ([]encoder.Row, error) {
	framed := f.Around(x)
	ids := [][]int64{}
	switch long {
	case Windows:
		ids = t.Windows(framed.Before, framed.Text, framed.After, maxLength, Overlap)
	case CutStart:
		ids = append(ids, t.EncodeEnd(framed.String(), maxLength))
	case Refuse:
		ids = append(ids, t.Encode(framed.String(), math.MaxInt32))
		if n := len(ids[0]); n > maxLength {
			return nil, &LengthError{n, maxLength}
		}
	default:
		ids = append(ids, t.Encode(framed.String(), maxLength))
	}
	rows := make([]encoder.Row, len(ids))
	for i := range ids {
		if len(ids[i]) == 0 {
			return nil, fmt.Errorf("%s has no token", x)
		}
		rows[i].IDs = ids[i]
	}
	return rows, nil
}

// Pair is a query and a passage.
type Pair struct {
	Query, Passage string
	Prompt         string // stands before the query in place of the model's own prompt; empty: the model's own

	queries *tokenizer.Remembered // of the call that the pair belongs to; nil: it is by itself
}

// PairRows tokenizes a pair. The passage is cut if the pair is too long. With Windows it returns a row for each window of a long
// passage, unless the query leaves fewer than minWindow tokens for a window: then the passage is cut. White space at the ends of
// the texts is kept, as sentence-transformers' CrossEncoder keeps it; only the pairs of RAG-Retrieval's decoders are stripped.
// BERT's tokenizers do not see the difference, byte-level ones do.
func PairRows(t *tokenizer.Tokenizer, f prompt.Formats, p Pair, maxLength, minWindow int, long LongText) ([]encoder.Row, error) {
	if f.Joined() {
		p.Query, p.Passage = strings.TrimSpace(p.Query), strings.TrimSpace(p.Passage)
	}
	q := f.Around(prompt.Text{Query: true, Prompt: p.Prompt, Text: p.Query}).String()
	d := f.Around(prompt.Text{Text: p.Passage})
	var ids, types [][]int64
	switch long {
	case Windows:
		ids, types = t.PairWindows(p.queries, q, d.Before, d.Text, d.After, maxLength, minWindow, Overlap)
	case Refuse:
		i, k := t.EncodePairRemembering(p.queries, q, d.String(), math.MaxInt32, tokenizer.OnlySecond)
		if len(i) > maxLength {
			return nil, &LengthError{len(i), maxLength}
		}
		ids, types = append(ids, i), append(types, k)
	default:
		i, k := t.EncodePairRemembering(p.queries, q, d.String(), maxLength, tokenizer.OnlySecond)
		ids, types = append(ids, i), append(types, k)
	}
	rows := make([]encoder.Row, len(ids))
	for i := range ids {
		if len(ids[i]) == 0 {
			return nil, fmt.Errorf("the pair of the query %.60q and the passage %.60q has no token", p.Query, p.Passage)
		}
		rows[i] = encoder.Row{IDs: ids[i], Types: types[i]}
	}
	return rows, nil
}

// TextError is an error about one of the texts, pairs or queries that a call was given.
type TextError struct {
	Index  int    // its number among them
	Origin string // where it is from, such as "test.jsonl:7"; empty: not known
	Err    error
}

func (e *TextError) Error() string {
	if e.Origin != "" {
		return e.Origin + ": " + e.Err.Error()
	}
	return fmt.Sprintf("text %d: %v", e.Index+1, e.Err)
}

func (e *TextError) Unwrap() error { return e.Err }
