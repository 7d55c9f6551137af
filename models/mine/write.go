package mine

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// Formats of the output.
const (
	Rows        = "rows" // this program's training rows
	Triplet     = "triplet"
	NTuple      = "n-tuple"
	LabeledPair = "labeled-pair"
	LabeledList = "labeled-list"
)

// OutputFormats lists them. All but Rows have the columns of sentence-transformers' mine_hard_negatives for a data set with the columns
// query and positive.
var OutputFormats = []string{Rows, Triplet, NTuple, LabeledPair, LabeledList}

// Writer writes mined queries as JSON lines:
//
//	rows          {"query", "pos": […], "neg": […]}, and "pos_scores", "neg_scores"
//	triplet       {"query", "positive", "negative"}, and "scores": [positive, negative]
//	n-tuple       {"query", "positive", "negative_1", …}, and "scores": [positive, negative_1, …]
//	labeled-pair  {"query", "positive", "label"}, or "score" in place of "label"
//	labeled-list  {"query", "positive": [positive, negative, …], "labels": [1, 0, …]}, or "scores" in place of "labels"
//
// In rows and labeled-pair a query has all its positives; the others have a row for each positive. Queries without negatives are left
// out, except in labeled-pair; n-tuple leaves out queries with too few.
type Writer struct {
	Format    string
	Scores    bool // writes scores
	Negatives int  // wanted of a query
	Rows      int  // written so far
	e         *json.Encoder
}

// NewWriter returns a writer.
func NewWriter(w io.Writer, format string, scores bool, negatives int) *Writer {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &Writer{Format: format, Scores: scores, Negatives: negatives, e: e}
}

// Write writes a query.
func (w *Writer) Write(m Mined) error {
	switch {
	case w.Format == LabeledPair:
		return w.pairs(m)
	case len(m.Negatives) == 0 || w.Format == NTuple && len(m.Negatives) < w.Negatives:
		return nil
	case w.Format == Rows:
		return w.row(m)
	}
	for _, p := range m.Positives {
		var err error
		switch w.Format {
		case Triplet:
			err = w.triplets(m, p)
		case NTuple:
			err = w.tuple(m, p)
		default:
			err = w.list(m, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// column is a key with its value; a row keeps the order of its columns.
type column struct {
	key   string
	value any
}

type columns []column

// MarshalJSON writes an object.
func (c columns) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, x := range c {
		if i > 0 {
			out = append(out, ',')
		}
		for k, v := range []any{x.key, x.value} {
			b, err := marshal(v)
			if err != nil {
				return nil, err
			}
			if out = append(out, b...); k == 0 {
				out = append(out, ':')
			}
		}
	}
	return append(out, '}'), nil
}

func (w *Writer) write(c columns) error {
	w.Rows++
	return w.e.Encode(c)
}

func texts(from ...Passage) (out []string) {
	for _, p := range from {
		out = append(out, p.Text)
	}
	return out
}

func scores(from ...Passage) (out []float32) {
	for _, p := range from {
		out = append(out, p.Score)
	}
	return out
}

// row writes this program's training row.
func (w *Writer) row(m Mined) error {
	c := columns{{"query", m.Query.Text}}
	if m.Query.Prompt != "" {
		c = append(c, column{"prompt_for_query", m.Query.Prompt})
	}
	c = append(c, column{"pos", texts(m.Positives...)}, column{"neg", texts(m.Negatives...)})
	if w.Scores {
		c = append(c, column{"pos_scores", scores(m.Positives...)}, column{"neg_scores", scores(m.Negatives...)})
	}
	return w.write(c)
}

func (w *Writer) triplets(m Mined, p Passage) error {
	for _, n := range m.Negatives {
		c := columns{{"query", m.Query.Text}, {"positive", p.Text}, {"negative", n.Text}}
		if w.Scores {
			c = append(c, column{"scores", scores(p, n)})
		}
		if err := w.write(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) tuple(m Mined, p Passage) error {
	c := columns{{"query", m.Query.Text}, {"positive", p.Text}}
	for i, n := range m.Negatives {
		c = append(c, column{"negative_" + strconv.Itoa(i+1), n.Text})
	}
	if w.Scores {
		c = append(c, column{"scores", scores(append([]Passage{p}, m.Negatives...)...)})
	}
	return w.write(c)
}

func (w *Writer) pairs(m Mined) error {
	for i, p := range append(append([]Passage(nil), m.Positives...), m.Negatives...) {
		last := column{"label", 0}
		if i < len(m.Positives) {
			last.value = 1
		}
		if w.Scores {
			last = column{"score", p.Score}
		}
		if err := w.write(columns{{"query", m.Query.Text}, {"positive", p.Text}, last}); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) list(m Mined, p Passage) error {
	all := append([]Passage{p}, m.Negatives...)
	last := column{"labels", append([]int{1}, make([]int, len(m.Negatives))...)}
	if w.Scores {
		last = column{"scores", scores(all...)}
	}
	return w.write(columns{{"query", m.Query.Text}, {"positive", texts(all...)}, last})
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
