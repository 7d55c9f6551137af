// Package data reads training rows in RAG-Retrieval's formats and deals them out in batches. It does not tokenize, and
// does not know what a model makes of a row.
package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/prompt"
)

// Row is a line of a training file, in any of the formats; what a format does not have is nil.
//
//	{"query", "pos"}  {"query", "pos", "neg"}  {"query", "pos", "scores"}     pos and neg: a text or a list
//	{"query", "content", "label"}              {"query", "hits": [{"content", "label"}]}
//	{"query"}  {"text"}
//
// Each may have "prompt_for_query", which stands before the query in place of the model's own prompt.
type Row struct {
	Query *string `json:"query"`
	// Plain is the text of a row of nothing else: it is read as the query.
	Plain  json.RawMessage `json:"text,omitempty"`
	Prompt string          `json:"prompt_for_query"`
	Pos    jsonl.Strings   `json:"pos"`
	Neg    jsonl.Strings   `json:"neg"`
	Scores []float64       `json:"scores"`
	// PosScores is another name of Scores, FlagEmbedding's.
	PosScores []float64 `json:"pos_scores"`
	Content   *string   `json:"content"`
	Label     *float64  `json:"label"`
	Hits      []Hit     `json:"hits"`
}

// Hit is a passage with its label.
type Hit struct {
	Content *string  `json:"content"`
	Label   *float64 `json:"label"`
}

// QueryText is the query with the row's own prompt.
func (r Row) QueryText() prompt.Text {
	return prompt.Text{Query: true, Own: r.Prompt, Text: *r.Query}
}

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
	// Form is what every row must be; empty: any. FormKey is the key of the configuration that wants it.
	Form    Form
	FormKey string
	SkipBad bool // leave bad rows out and count them, instead of an error
	// Weights say how often each file's examples come in an epoch: 2 is twice, 0.5 a different half each epoch. Nil: once.
	Weights []float64
	// Examples says how many examples a row makes; an error is about its keys. ErrIdle is for a row that is right, but
	// teaches nothing: it is left out and counted.
	Examples func(Row) (int, error)
	// Cache is a folder for indices, so that a file is read whole only once; empty: none is kept. Key tells what Examples
	// depends on.
	Cache, Key string
}

// ErrIdle is about a row that teaches nothing, wrapped in an error that says why.
var ErrIdle = errors.New("the row teaches nothing")

// decode reads and checks a row.
func (o Options) decode(b []byte) (Row, error) {
	var r Row
	if err := jsonl.Decode(b, &r); err != nil {
		return r, err
	}
	if r.Scores == nil {
		r.Scores = r.PosScores
	}
	key := defaultLabel
	if o.LabelKey != "" && o.LabelKey != defaultLabel {
		key = o.LabelKey
		if err := o.readLabels(b, &r); err != nil {
			return r, err
		}
	}
	form := r.Form()
	if r.Query == nil && r.Plain != nil && form == Queries {
		if err := json.Unmarshal(r.Plain, &r.Query); err != nil {
			return r, fmt.Errorf(`"text" is %.40s, want a string`, r.Plain)
		}
	}
	if o.Form != "" && form != o.Form {
		return r, fmt.Errorf("%s wants rows of %s, this one is of %s", o.FormKey, o.Form, form)
	}
	return r, r.check(key)
}

const defaultLabel = "label"

// readLabels reads labels under another key.
func (o Options) readLabels(b []byte, r *Row) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	label := func(from map[string]json.RawMessage) (*float64, error) {
		b, ok := from[o.LabelKey]
		if !ok {
			return nil, nil
		}
		var x *float64
		if err := json.Unmarshal(b, &x); err != nil {
			return nil, fmt.Errorf("%q is %.40s, want a number", o.LabelKey, b)
		}
		return x, nil
	}
	var err error
	if r.Label, err = label(raw); err != nil || r.Hits == nil {
		return err
	}
	var hits []map[string]json.RawMessage
	if err := json.Unmarshal(raw["hits"], &hits); err != nil || len(hits) != len(r.Hits) { // a struct takes "Hits" too
		return errors.New(`"hits" must stand once, in small letters`)
	}
	for k := range r.Hits {
		if r.Hits[k].Label, err = label(hits[k]); err != nil {
			return err
		}
	}
	return nil
}

// Dataset is files of training rows. Texts and the index of examples stay on disk until a batch needs them, so that a
// large file takes no more memory than a small one.
type Dataset struct {
	files []*file
	o     Options
	ends  []int // of each file's examples

	Skipped   int    // bad rows that were left out
	FirstBad  string // the first of them
	Idle      int    // rows that teach nothing, left out too
	FirstIdle string // the first of them
}

// Example is a row and which of its examples is meant.
type Example struct {
	Row    Row
	Item   int
	Number int // in the data set
}

// Open indexes files and checks every row, so that a bad one ends a run before it starts.
func Open(ctx context.Context, paths []string, o Options) (*Dataset, error) {
	if o.Weights != nil && len(o.Weights) != len(paths) {
		return nil, fmt.Errorf("%d weights for %d files", len(o.Weights), len(paths))
	}
	d := &Dataset{o: o}
	for _, path := range paths {
		f, err := openFile(ctx, path, o)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		d.files = append(d.files, f)
		d.ends = append(d.ends, d.Len()+f.examples())
		if d.Skipped += f.summary.Skipped; d.FirstBad == "" {
			d.FirstBad = f.summary.FirstBad
		}
		if d.Idle += f.summary.Idle; d.FirstIdle == "" {
			d.FirstIdle = f.summary.FirstIdle
		}
		if err := d.checkShare(len(d.files) - 1); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// checkShare says what is wrong with a file that gives no example to an epoch.
func (d *Dataset) checkShare(i int) error {
	f := d.files[i]
	switch {
	case f.examples() > 0 && d.share(i) > 0:
		return nil
	case f.examples() > 0:
		return fmt.Errorf("%s: the weight %g leaves none of its %d examples in an epoch", f.path, d.o.Weights[i], f.examples())
	case f.summary.FirstBad != "":
		return fmt.Errorf("%s: no row makes an example; the first bad one: %s", f.path, f.summary.FirstBad)
	case f.summary.FirstIdle != "":
		return fmt.Errorf("%s: no row makes an example; the first: %s", f.path, f.summary.FirstIdle)
	}
	return fmt.Errorf("%s: no row makes an example", f.path)
}

// Len is the number of examples.
func (d *Dataset) Len() int {
	if len(d.ends) == 0 {
		return 0
	}
	return d.ends[len(d.ends)-1]
}

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
	n := d.files[i].examples()
	if d.o.Weights == nil {
		return n
	}
	return int(math.Round(d.o.Weights[i] * float64(n)))
}

// numbered is the example in place k of an epoch that is not shuffled: of each file whole copies, then a part that
// another epoch draws anew.
func (d *Dataset) numbered(k int, seed uint64, epoch int) int {
	first := 0
	for i, f := range d.files {
		n, share := f.examples(), d.share(i)
		if k >= share {
			k, first = k-share, first+n
			continue
		}
		if whole := share / max(1, n) * n; k >= whole {
			return first + newPermutation(n, seed+uint64(i)+1, uint64(epoch)).at(k-whole)
		}
		return first + k%n
	}
	return 0 // k is below EpochLen
}

// Sums tell the files' bytes, as they were when they were indexed.
func (d *Dataset) Sums() []Sum {
	var out []Sum
	for _, f := range d.files {
		out = append(out, f.summary.File)
	}
	return out
}

// Name names the data for messages.
func (d *Dataset) Name() string {
	var names []string
	for _, f := range d.files {
		names = append(names, f.path)
	}
	return strings.Join(names, ", ")
}

// locate gives the file of an example and its number there.
func (d *Dataset) locate(i int) (*file, int) {
	k := 0
	for i >= d.ends[k] {
		k++
	}
	f := d.files[k]
	return f, i - (d.ends[k] - f.examples())
}

// Item says which of its row's examples an example is, without reading the row.
func (d *Dataset) Item(i int) int {
	f, k := d.locate(i)
	return int(f.record(k).item)
}

// Example reads an example.
func (d *Dataset) Example(i int) (Example, error) {
	f, k := d.locate(i)
	r, item, err := f.read(k, d.o)
	return Example{r, item, i}, err
}

// Query is the example's query.
func (e Example) Query() Text { return Text{e.Row.QueryText(), e.Number} }

// Passages are passages of the example.
func (e Example) Passages(texts ...string) []Text {
	out := make([]Text, len(texts))
	for i, text := range texts {
		out[i] = Text{prompt.Text{Text: text}, e.Number}
	}
	return out
}

// origin gives file and line of examples' rows.
func (d *Dataset) origin(examples []Example) []string {
	var out []string
	for _, e := range examples {
		out = append(out, d.Place(e.Number))
	}
	return out
}

// Place is the file and the line of an example's row.
func (d *Dataset) Place(i int) string {
	f, k := d.locate(i)
	return fmt.Sprintf("%s:%d", f.path, f.record(k).line)
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
