// Package data reads training rows in RAG-Retrieval's formats, checks and indexes them, and forms batches of examples. It
// does not tokenize and knows nothing of models.
//
//	d, err := data.Open(ctx, []string{"pairs.jsonl"}, data.Options{Examples: examplesOfRow})
//	defer d.Close()
//	source := d.Source(data.Batching{BatchSize: 32, Accumulation: 1}, collate)
//	batches, err := source(0) // of the first step
package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/prompt"
)

// Row is a line of a training file, in any of these formats. Fields that a format does not have are nil.
//
//	{"query", "pos"}  {"query", "pos", "neg"}  {"query", "pos", "scores"}     pos and neg: a text or a list
//	{"query", "pos", "pos_scores", "neg", "neg_scores"}
//	{"query", "content", "label"}              {"query", "hits": [{"content", "label"}]}
//	{"query"}  {"text"}
//
// Each row may also have "prompt_for_query", which replaces the model's own prompt before the query.
type Row struct {
	Query *string `json:"query"`
	// PlainText is the text of a row that has only "text". It counts as the query.
	PlainText json.RawMessage `json:"text,omitempty"`
	Prompt    string          `json:"prompt_for_query"`
	Pos       jsonl.Strings   `json:"pos"`
	Neg       jsonl.Strings   `json:"neg"`
	Scores    []float64       `json:"scores"`
	// PosScores is FlagEmbedding's name for Scores.
	PosScores []float64 `json:"pos_scores"`
	// NegScores are a teacher's scores of Neg, also in FlagEmbedding's form. They are nil if the teacher scored only Pos.
	NegScores []float64 `json:"neg_scores"`
	Content   *string   `json:"content"`
	Label     *float64  `json:"label"`
	Hits      []Hit     `json:"hits"`
}

// Hit is a passage with its label.
type Hit struct {
	Content *string  `json:"content"`
	Label   *float64 `json:"label"`
}

// QueryText returns the query with the row's own prompt.
func (r Row) QueryText() prompt.Text {
	return prompt.Text{Query: true, Prompt: r.Prompt, Text: *r.Query}
}

// Taught returns the passages of a row of the format Scored that the teacher scored, with their scores.
func (r Row) Taught() (texts []string, scores []float64) {
	if r.NegScores == nil {
		return r.Pos, r.Scores
	}
	return slices.Concat(r.Pos, r.Neg), slices.Concat(r.Scores, r.NegScores)
}

// Form is a format of rows.
type Form string

// The formats.
const (
	Pairs   Form = `{"query", "pos"[, "neg"]}`
	Scored  Form = `{"query", "pos", "scores"}`
	Labeled Form = `{"query", "content", "label"}`
	Grouped Form = `{"query", "hits": [{"content", "label"}]}`
	Queries Form = `{"query"}`
)

// Form returns the row's format, which follows from its keys.
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

// check returns an error if a row is wrong for every kind of model.
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
		if r.NegScores != nil && len(r.NegScores) != len(r.Neg) {
			return fmt.Errorf(`"neg_scores" has %d numbers for %d texts in "neg"`, len(r.NegScores), len(r.Neg))
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

// Options holds the settings for reading a data set.
type Options struct {
	LabelKey string // the key of labels; "" means "label"
	// Form is the format that every row must have; "" means any. FormKey is the configuration key that demands it.
	Form    Form
	FormKey string
	SkipBad bool // skip and count bad rows, instead of an error
	// Weights says how often each file's examples come in an epoch: 2 means twice, 0.5 a different half each epoch. Nil
	// means once.
	Weights []float64
	// Examples returns how many examples a row makes, or an error about its keys. If the error wraps ErrUninformative, the
	// row is skipped and counted.
	Examples func(Row) (int, error)
	// Negatives is how many negatives an example draws from its row. Rows that make an example and have fewer are counted. 0:
	// examples have no negatives.
	Negatives int
	// Cache is a folder for indices, so that a file is read whole only once. With "" no index is kept. Key names the
	// settings that Examples depends on: an index is valid for one Key.
	Cache, Key string
	// Note hears what the user should know, such as a wait for another process. It may be nil.
	Note func(line string)
}

// ErrUninformative is the error of a correct row that teaches nothing, such as hits with equal labels. Errors that wrap it
// say why.
var ErrUninformative = errors.New("the row teaches nothing")

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
	if r.Query == nil && r.PlainText != nil && form == Queries {
		if err := json.Unmarshal(r.PlainText, &r.Query); err != nil {
			return r, fmt.Errorf(`"text" is %.40s, want a string`, r.PlainText)
		}
	}
	if o.Form != "" && form != o.Form {
		return r, fmt.Errorf("%s wants rows of %s, this one is of %s", o.FormKey, o.Form, form)
	}
	return r, r.check(key)
}

const defaultLabel = "label"

// readLabels reads the labels of a row from o.LabelKey.
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
	if err := json.Unmarshal(raw["hits"], &hits); err != nil || len(hits) != len(r.Hits) { // encoding/json also takes "Hits" for the struct
		return errors.New(`"hits" must be there once, in lower case`)
	}
	for k := range r.Hits {
		if r.Hits[k].Label, err = label(hits[k]); err != nil {
			return err
		}
	}
	return nil
}

// Dataset is a set of files of training rows. Texts and the index of examples stay on disk until a batch needs them, so
// that a large file takes no more memory than a small one.
type Dataset struct {
	files []*file
	o     Options
	ends  []int // number of examples up to the end of each file

	Skipped            int    // number of bad rows, which are skipped
	FirstBad           string // what is wrong with the first of them
	Uninformative      int    // number of rows that teach nothing, which are skipped too
	FirstUninformative string // why the first of them teaches nothing
	Short              int    // number of rows with fewer negatives than an example draws, see Draw
	FirstShort         string // how many the first of them has
}

// Example is one training example. A row may make several.
type Example struct {
	Row        Row
	IndexInRow int // among the examples of the row
	Number     int // among the examples of the data set
}

// Open indexes the files and checks every row, so that a run with a bad row fails before it starts. A file without any
// example is an error.
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
		if d.Uninformative += f.summary.Uninformative; d.FirstUninformative == "" {
			d.FirstUninformative = f.summary.FirstUninformative
		}
		if d.Short += f.summary.Short; d.FirstShort == "" {
			d.FirstShort = f.summary.FirstShort
		}
		if err := d.checkNotEmpty(len(d.files) - 1); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// checkNotEmpty returns an error if an epoch has no example of file i.
func (d *Dataset) checkNotEmpty(i int) error {
	f := d.files[i]
	switch {
	case f.examples() > 0 && d.examplesPerEpoch(i) > 0:
		return nil
	case f.examples() > 0:
		return fmt.Errorf("%s: the weight %g leaves none of its %d examples in an epoch", f.path, d.o.Weights[i], f.examples())
	case f.summary.FirstBad != "":
		return fmt.Errorf("%s: no row makes an example; the first bad one: %s", f.path, f.summary.FirstBad)
	case f.summary.FirstUninformative != "":
		return fmt.Errorf("%s: no row makes an example; the first: %s", f.path, f.summary.FirstUninformative)
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

// EpochLen is the number of examples in an epoch. It depends on the files' weights.
func (d *Dataset) EpochLen() int {
	n := 0
	for i := range d.files {
		n += d.examplesPerEpoch(i)
	}
	return n
}

// examplesPerEpoch is how many examples of file i an epoch has.
func (d *Dataset) examplesPerEpoch(i int) int {
	n := d.files[i].examples()
	if d.o.Weights == nil {
		return n
	}
	return int(math.Round(d.o.Weights[i] * float64(n)))
}

// unshuffledExample returns the number of the example at position k of an epoch before shuffling. An epoch has, for each
// file, as many whole copies as its weight says, then a random part that differs by epoch.
func (d *Dataset) unshuffledExample(k int, seed uint64, epoch int) int {
	first := 0
	for i, f := range d.files {
		n, share := f.examples(), d.examplesPerEpoch(i)
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

// Checksums returns the files' checksums from when they were indexed.
func (d *Dataset) Checksums() []Checksum {
	var out []Checksum
	for _, f := range d.files {
		out = append(out, f.summary.File)
	}
	return out
}

// Name lists the files, for messages.
func (d *Dataset) Name() string {
	var names []string
	for _, f := range d.files {
		names = append(names, f.path)
	}
	return strings.Join(names, ", ")
}

// locate returns the file of an example and the example's number in it.
func (d *Dataset) locate(i int) (*file, int) {
	k := 0
	for i >= d.ends[k] {
		k++
	}
	f := d.files[k]
	return f, i - (d.ends[k] - f.examples())
}

// IndexInRow returns an example's index among the examples of its row, without reading the row.
func (d *Dataset) IndexInRow(i int) int {
	f, k := d.locate(i)
	return int(f.record(k).indexInRow)
}

// Example reads an example.
func (d *Dataset) Example(i int) (Example, error) {
	f, k := d.locate(i)
	r, item, err := f.read(k, d.o)
	return Example{r, item, i}, err
}

// Query returns the example's query.
func (e Example) Query() Text { return Text{e.Row.QueryText(), e.Number} }

// Passages makes texts of the example from passages.
func (e Example) Passages(texts ...string) []Text {
	out := make([]Text, len(texts))
	for i, text := range texts {
		out[i] = Text{prompt.Text{Text: text}, e.Number}
	}
	return out
}

// origin returns file and line of each example's row.
func (d *Dataset) origin(examples []Example) []string {
	var out []string
	for _, e := range examples {
		out = append(out, d.Location(e.Number))
	}
	return out
}

// Location returns file and line of an example's row, such as "pairs.jsonl:7".
func (d *Dataset) Location(i int) string {
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
	d.files = nil
	return errors.Join(errs...)
}
