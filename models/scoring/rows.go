package scoring

import (
	"fmt"
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/tokenizer"
)

// Rows makes a text's tokens, at most maxLength in a row: for training, validation, evaluation and every command alike.
// It is one row, cut at its end, or with windows all of a long text, see Options.MaxWindow.
func Rows(t *tokenizer.Tokenizer, f prompt.Formats, x prompt.Text, maxLength int, windows bool) ([]encoder.Row, error) {
	framed := f.Around(x)
	ids := [][]int64{}
	if windows {
		ids = t.Windows(framed.Before, framed.Text, framed.After, maxLength, Overlap)
	} else {
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
}

// PairRows is Rows for a pair, as RAG-Retrieval lays it out: both texts stripped of white space at their ends before their
// formats are put around them, the passage cut where both are too long. A query that leaves fewer than least tokens for
// a window has its passage cut instead.
func PairRows(t *tokenizer.Tokenizer, f prompt.Formats, p Pair, maxLength, least int, windows bool) ([]encoder.Row, error) {
	q := f.Around(prompt.Text{Query: true, Prompt: p.Prompt, Text: strings.TrimSpace(p.Query)}).String()
	d := f.Around(prompt.Text{Text: strings.TrimSpace(p.Passage)})
	var ids, types [][]int64
	if windows {
		ids, types = t.PairWindows(q, d.Before, d.Text, d.After, maxLength, least, Overlap)
	} else {
		i, k := t.EncodePair(q, d.String(), maxLength, tokenizer.OnlySecond)
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

// TextError is about one of the texts, pairs or samples that were to be scored.
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
