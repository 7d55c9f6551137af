// Package data reads training rows in RAG-Retrieval's formats and deals them out in batches. It does not tokenize, and
// does not know what a model makes of a row.
package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"rag-retrieval-go/internal/jsonl"
)

// Row is a line of a training file, in any of the formats; what a format does not have is nil.
//
//	{"query", "pos"}  {"query", "pos", "neg"}  {"query", "pos", "scores"}     pos and neg: a text or a list
//	{"query", "content", "label"}              {"query", "hits": [{"content", "label"}]}
//
// Each may have "prompt_for_query", which stands before the query.
type Row struct {
	Query   *string       `json:"query"`
	Prompt  string        `json:"prompt_for_query"`
	Pos     jsonl.Strings `json:"pos"`
	Neg     jsonl.Strings `json:"neg"`
	Scores  []float64     `json:"scores"`
	Content *string       `json:"content"`
	Label   *float64      `json:"label"`
	Hits    []Hit         `json:"hits"`
}

// Hit is a passage with its label.
type Hit struct {
	Content *string  `json:"content"`
	Label   *float64 `json:"label"`
}

// Text is the query with its prompt.
func (r Row) Text() string { return r.Prompt + *r.Query }

// Form says which format a row has.
type Form string

// The formats.
const (
	Pairs   Form = `{"query", "pos"[, "neg"]}`
	Scored  Form = `{"query", "pos", "scores"}`
	Labeled Form = `{"query", "content", "label"}`
	Grouped Form = `{"query", "hits": [{"content", "label"}]}`
	Queries Form = `{"query"}`
)

// Form tells a row's format by its keys.
func (r Row) Form() Form {
	switch {
	case r.Hits != nil:
		return Grouped
	case r.Content != nil || r.Label != nil:
		return Labeled
	case r.Scores != nil:
		return Scored
	case r.Pos != nil:
		return Pairs
	}
	return Queries
}

// check says what is wrong with a row, whatever it is used for.
func (r Row) check(labelKey string) error {
	if r.Query == nil {
		return errors.New(`"query" is missing`)
	}
	if blank(*r.Query) {
		return errors.New(`"query" is empty`)
	}
	for key, texts := range map[string]jsonl.Strings{"pos": r.Pos, "neg": r.Neg} {
		for _, t := range texts {
			if blank(t) {
				return fmt.Errorf("%q has an empty text", key)
			}
		}
	}
	switch r.Form() {
	case Grouped:
		for i, h := range r.Hits {
			if err := checkLabeled(h.Content, h.Label, labelKey); err != nil {
				return fmt.Errorf("hits[%d]: %w", i, err)
			}
		}
		if len(r.Hits) == 0 {
			return errors.New(`"hits" is empty`)
		}
	case Labeled:
		return checkLabeled(r.Content, r.Label, labelKey)
	case Scored:
		if len(r.Pos) == 0 || len(r.Scores) != len(r.Pos) {
			return fmt.Errorf(`"scores" has %d numbers for %d texts in "pos"`, len(r.Scores), len(r.Pos))
		}
	case Pairs:
		if len(r.Pos) == 0 {
			return errors.New(`"pos" is missing or empty`)
		}
	}
	return nil
}

func checkLabeled(content *string, label *float64, labelKey string) error {
	switch {
	case content == nil:
		return errors.New(`"content" is missing`)
	case blank(*content):
		return errors.New(`"content" is empty`)
	case label == nil:
		return fmt.Errorf("%q is missing", labelKey)
	}
	return nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// Options say how a data set is read.
type Options struct {
	LabelKey string // the key of labels; empty: "label"
	SkipBad  bool   // leave bad rows out and count them, instead of an error
	// Weights say how often each file's examples come in an epoch: 2 is twice, 0.5 a different half each epoch. Nil: once.
	Weights []float64
	// Examples says how many examples a row makes; an error is about its keys.
	Examples func(Row) (int, error)
}

// Dataset is files of training rows. Texts stay on disk until a batch needs them.
type Dataset struct {
	files    []*jsonl.File
	o        Options
	examples []example
	ends     []int // of each file's examples
	Skipped  int   // bad rows that were left out
	FirstBad error // the first of them
}

// example is one of those that a row makes.
type example struct{ file, row, item int32 }

// Example is a row and which of its examples is meant.
type Example struct {
	Row    Row
	Item   int
	Number int // in the data set
}

// Open indexes files and checks every row, so that a bad one ends a run before it starts.
func Open(paths []string, o Options) (*Dataset, error) {
	if o.LabelKey == "" {
		o.LabelKey = "label"
	}
	if o.Weights != nil && len(o.Weights) != len(paths) {
		return nil, fmt.Errorf("%d weights for %d files", len(o.Weights), len(paths))
	}
	d := &Dataset{o: o}
	for _, path := range paths {
		if err := d.add(path); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if len(d.examples) == 0 {
		err := fmt.Errorf("%s: no row makes an example", strings.Join(paths, ", "))
		if d.FirstBad != nil {
			err = fmt.Errorf("%w: the first bad one: %w", err, d.FirstBad)
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dataset) add(path string) error {
	f, err := jsonl.Open(path)
	if err != nil {
		return err
	}
	file := int32(len(d.files))
	d.files = append(d.files, f)
	for i := 0; i < f.Len(); i++ {
		r, err := d.read(f, i)
		n := 0
		if err == nil {
			if n, err = d.o.Examples(r); err != nil {
				err = f.Errorf(i, "%w", err)
			}
		}
		if err != nil && d.o.SkipBad {
			if d.Skipped++; d.FirstBad == nil {
				d.FirstBad = err
			}
			continue
		}
		if err != nil {
			return err
		}
		for item := range n {
			d.examples = append(d.examples, example{file, int32(i), int32(item)})
		}
	}
	d.ends = append(d.ends, len(d.examples))
	return nil
}

// read reads and checks a row.
func (d *Dataset) read(f *jsonl.File, i int) (Row, error) {
	var r Row
	if err := f.Row(i, &r); err != nil {
		return r, err
	}
	if d.o.LabelKey != "label" {
		if err := d.readLabels(f, i, &r); err != nil {
			return r, err
		}
	}
	if err := r.check(d.o.LabelKey); err != nil {
		return r, f.Errorf(i, "%w", err)
	}
	return r, nil
}

// readLabels reads labels under another key.
func (d *Dataset) readLabels(f *jsonl.File, i int, r *Row) error {
	var raw map[string]json.RawMessage
	if err := f.Row(i, &raw); err != nil {
		return err
	}
	label := func(from map[string]json.RawMessage) (*float64, error) {
		b, ok := from[d.o.LabelKey]
		if !ok {
			return nil, nil
		}
		var x *float64
		if err := json.Unmarshal(b, &x); err != nil {
			return nil, f.Errorf(i, "%q is %.40s, want a number", d.o.LabelKey, b)
		}
		return x, nil
	}
	var err error
	if r.Label, err = label(raw); err != nil || r.Hits == nil {
		return err
	}
	var hits []map[string]json.RawMessage
	if err := json.Unmarshal(raw["hits"], &hits); err != nil {
		return f.Errorf(i, `"hits": %w`, err)
	}
	for k := range r.Hits {
		if r.Hits[k].Label, err = label(hits[k]); err != nil {
			return err
		}
	}
	return nil
}

// Len is the number of examples.
func (d *Dataset) Len() int { return len(d.examples) }

// EpochLen is the number of examples in an epoch, by the files' weights.
func (d *Dataset) EpochLen() int {
	n := 0
	for i := range d.files {
		n += d.share(i)
	}
	return n
}

// share is how many examples of file i an epoch has.
func (d *Dataset) share(i int) int {
	n := d.ends[i] - d.begin(i)
	if d.o.Weights == nil {
		return n
	}
	return int(math.Round(d.o.Weights[i] * float64(n)))
}

// begin is the number of file i's first example.
func (d *Dataset) begin(i int) int {
	if i == 0 {
		return 0
	}
	return d.ends[i-1]
}

// epoch lists the examples of an epoch: of each file whole copies, then a part that another epoch draws anew.
func (d *Dataset) epoch(seed uint64, epoch int) []int {
	out := make([]int, 0, d.EpochLen())
	for i := range d.files {
		first, n := d.begin(i), d.ends[i]-d.begin(i)
		left := d.share(i)
		for ; left >= n && n > 0; left -= n {
			for k := range n {
				out = append(out, first+k)
			}
		}
		if left > 0 {
			for _, k := range rand.New(rand.NewPCG(seed+uint64(i)+1, uint64(epoch))).Perm(n)[:left] {
				out = append(out, first+k)
			}
		}
	}
	return out
}

// Name names the data for messages.
func (d *Dataset) Name() string {
	var names []string
	for _, f := range d.files {
		names = append(names, f.Path)
	}
	return strings.Join(names, ", ")
}

// Example reads an example.
func (d *Dataset) Example(i int) (Example, error) {
	e := d.examples[i]
	r, err := d.read(d.files[e.file], int(e.row))
	return Example{r, int(e.item), i}, err
}

// Close closes the files.
func (d *Dataset) Close() error {
	if d == nil {
		return nil
	}
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
