package embedding

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
)

// row is a line of a training file: {"query", "pos"} or {"query", "pos", "neg"}; pos and neg are a text or a list.
type row struct {
	Query *string       `json:"query"`
	Pos   jsonl.Strings `json:"pos"`
	Neg   jsonl.Strings `json:"neg"`
}

// Dataset is a file of training rows, one example per positive. Texts stay on disk until a batch needs them.
type Dataset struct {
	file     *jsonl.File
	examples []example
}

// example is one positive of a row.
type example struct{ row, positive int32 }

// OpenDataset indexes a file and checks every row of it, so that a bad one ends a run before it starts.
// needNegatives says that hard negatives will be drawn from the rows.
func OpenDataset(path string, needNegatives bool) (*Dataset, error) {
	f, err := jsonl.Open(path)
	if err != nil {
		return nil, err
	}
	d := &Dataset{file: f}
	for i := 0; i < f.Len(); i++ {
		r, err := d.read(i)
		if err == nil && needNegatives && len(r.Neg) == 0 {
			err = f.Errorf(i, `"neg" is missing or empty, but neg_nums asks for negatives`)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		for p := range r.Pos {
			d.examples = append(d.examples, example{int32(i), int32(p)})
		}
	}
	return d, nil
}

// read reads and checks a row.
func (d *Dataset) read(i int) (row, error) {
	var r row
	if err := d.file.Row(i, &r); err != nil {
		return r, err
	}
	switch {
	case r.Query == nil:
		return r, d.file.Errorf(i, `"query" is missing`)
	case strings.TrimSpace(*r.Query) == "":
		return r, d.file.Errorf(i, `"query" is empty`)
	case len(r.Pos) == 0:
		return r, d.file.Errorf(i, `"pos" is missing or empty`)
	}
	for key, texts := range map[string]jsonl.Strings{"pos": r.Pos, "neg": r.Neg} {
		for _, t := range texts {
			if strings.TrimSpace(t) == "" {
				return r, d.file.Errorf(i, "%q has an empty text", key)
			}
		}
	}
	return r, nil
}

// Len is the number of examples.
func (d *Dataset) Len() int { return len(d.examples) }

// Close closes the file.
func (d *Dataset) Close() error { return d.file.Close() }

// Batching says how examples become batches.
type Batching struct {
	BatchSize     int // examples of a micro-batch
	Accumulation  int // micro-batches of a step
	NegNums       int // hard negatives per query; fewer are repeated, drawn anew each epoch
	QueryMaxLen   int // tokens
	PassageMaxLen int // tokens
	Groups        int // attention groups of the graph
	Shuffle       bool
	Seed          uint64
}

// Shape are the limits of the batches it makes.
func (b Batching) Shape() Shape {
	return Shape{
		Rows: b.BatchSize * (2 + b.NegNums), MaxLength: max(b.QueryMaxLen, b.PassageMaxLen), Groups: b.Groups,
	}
}

// StepsPerEpoch is how many optimizer steps one pass over the data takes. The last micro-batch may be smaller, and
// so may the last step; a last micro-batch of a single example without negatives, which teaches nothing, is left out.
func (b Batching) StepsPerEpoch(examples int) int {
	micro := b.microBatches(examples)
	return (micro + b.Accumulation - 1) / b.Accumulation
}

func (b Batching) microBatches(examples int) int {
	n := examples / b.BatchSize
	if rest := examples % b.BatchSize; rest > 1 || rest == 1 && (b.NegNums > 0 || n == 0) {
		n++
	}
	return n
}

// Source gives the batches of every step, as a pure function of the step: a resumed run sees what the run that was
// never stopped would have seen.
func (m *Model) Source(d *Dataset, b Batching) (ortrain.Source, error) {
	if err := m.checkBatching(b); err != nil {
		return nil, err
	}
	if d.Len() < 2 && b.NegNums == 0 {
		return nil, fmt.Errorf("%s has one example: in-batch negatives need at least two", d.file.Path)
	}
	s := &source{m: m, d: d, b: b, epoch: -1}
	return s.step, nil
}

// checkBatching says whether the batches' lengths fit the model.
func (m *Model) checkBatching(b Batching) error {
	return errors.Join(m.checkLengths("query_max_len", b.QueryMaxLen), m.checkLengths("passage_max_len", b.PassageMaxLen))
}

type source struct {
	m     *Model
	d     *Dataset
	b     Batching
	epoch int
	order []int // the epoch's permutation of the examples
}

func (s *source) step(step int) ([]*ortrain.Batch, error) {
	perEpoch := s.b.StepsPerEpoch(s.d.Len())
	epoch, within := step/perEpoch, step%perEpoch
	if epoch != s.epoch {
		s.epoch, s.order = epoch, s.permutation(epoch)
	}
	var out []*ortrain.Batch
	micro := s.b.microBatches(s.d.Len())
	for i := within * s.b.Accumulation; i < min((within+1)*s.b.Accumulation, micro); i++ {
		b, err := s.batch(s.order[i*s.b.BatchSize : min((i+1)*s.b.BatchSize, len(s.order))])
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (s *source) permutation(epoch int) []int {
	if s.b.Shuffle {
		return rand.New(rand.NewPCG(s.b.Seed, uint64(epoch))).Perm(s.d.Len())
	}
	order := make([]int, s.d.Len())
	for i := range order {
		order[i] = i
	}
	return order
}

// batch tokenizes examples: their queries, their positives, then their negatives query by query.
func (s *source) batch(examples []int) (*ortrain.Batch, error) {
	var queries, positives, negatives []string
	for _, e := range examples {
		x := s.d.examples[e]
		r, err := s.d.read(int(x.row))
		if err != nil {
			return nil, err
		}
		queries = append(queries, *r.Query)
		positives = append(positives, r.Pos[x.positive])
		negatives = append(negatives, s.draw(e, r.Neg)...)
	}
	return s.m.batch(s.b, queries, append(positives, negatives...)), nil
}

// draw picks an example's hard negatives for this epoch, without repetition as long as there are enough.
func (s *source) draw(example int, from []string) []string {
	if s.b.NegNums == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(s.b.Seed^uint64(example)<<20, uint64(s.epoch)))
	var out []string
	for len(out) < s.b.NegNums {
		for _, i := range rng.Perm(len(from)) {
			if len(out) < s.b.NegNums {
				out = append(out, from[i])
			}
		}
	}
	return out
}

// batch tokenizes queries and passages, the positive of query i being passage i.
func (m *Model) batch(b Batching, queries, passages []string) *ortrain.Batch {
	rows := make([]encoder.Row, 0, len(queries)+len(passages))
	for _, t := range queries {
		rows = append(rows, encoder.Row{IDs: m.Tokenizer.Encode(t, b.QueryMaxLen)})
	}
	for _, t := range passages {
		rows = append(rows, encoder.Row{IDs: m.Tokenizer.Encode(t, b.PassageMaxLen)})
	}
	return m.layOut(b.Groups, rows, queries, passages)
}

// layOut packs tokenized rows, queries first. The texts only tell which passages are equal.
func (m *Model) layOut(groups int, rows []encoder.Row, queries, passages []string) *ortrain.Batch {
	out := ortrain.NewBatch()
	out.Rows = len(queries)
	starts := m.Encoder.Pack(out, rows, groups)
	lengths := make([]int, len(rows))
	for i, r := range rows {
		lengths[i] = len(r.IDs)
	}
	n := len(queries)
	m.Config.bindPooling(out, queryRows, starts[:n], lengths[:n])
	m.Config.bindPooling(out, passageRows, starts[n:], lengths[n:])
	bindInfoNCE(out, queries, passages)
	return out
}
