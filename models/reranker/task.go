package reranker

import (
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/modelfolder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Task fine-tunes a reranker with one of its losses.
type Task struct {
	m     *Model
	c     config.Train
	loss  loss
	fresh []string // the tensors that Fill started at random, since the base model lacks them
	full  string   // what Check says of queries that leave no room for their passages
}

// NewTask opens the base model.
func NewTask(c config.Train) (finetune.Task, error) {
	m, err := OpenBase(c.Model)
	if err != nil {
		return nil, err
	}
	trained, fused := finetune.SetTrained(c, &m.Encoder), m.Encoder.SetFusedAttention(c.FusedAttention)
	f, err := c.Formats(m.Formats)
	if err == nil {
		err = m.setFormats(f)
	}
	if err := errors.Join(err, trained, fused, c.CheckFused(m.Encoder.AttentionDropout), m.checkLength("max_len", c.MaxLen)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Task{m: m, c: c, loss: losses[c.LossType]}, nil
}

// Close frees the model.
func (t *Task) Close() error { return t.m.Close() }

// Fill reads the base model's weights. If it has no head, a new one is made.
func (t *Task) Fill(l *flat.Layout, parameters []float32) (err error) {
	t.fresh, err = t.m.Start(hf.Buffer{Layout: l, Data: parameters}, t.c.Seed)
	return err
}

// Notes implements finetune.Noter.
func (t *Task) Notes() (notes []string) {
	if len(t.fresh) > 0 {
		notes = append(notes, fmt.Sprintf("the base model has no score yet: %d tensors start at random (%s …)", len(t.fresh), t.fresh[0]))
	}
	if t.full != "" {
		notes = append(notes, t.full)
	}
	return notes
}

// checkedRows is how many examples Check looks at, spread over the data.
const checkedRows = 64

// Check implements finetune.Checker. It looks for queries that fill max_len alone: nothing of their passages is left, so all their
// pairs are equal and teach nothing. That is no error, since other queries may be shorter, but Notes says it.
func (t *Task) Check(d *data.Dataset) error {
	n := min(d.Len(), checkedRows)
	full, first := 0, ""
	for k := range n {
		e, err := d.Example(k * d.Len() / n)
		if err != nil {
			return err
		}
		if ok, err := t.fillsLength(e.Row); err != nil {
			return &data.ExampleError{Number: e.Number, Err: err}
		} else if ok {
			if full++; full == 1 {
				first = d.Location(e.Number)
			}
		}
	}
	if full > 0 {
		t.full = fmt.Sprintf("max_len: in %d of %d examples that were looked at, the query alone fills %d tokens and nothing of the passage is left, which teaches nothing; the first: %s",
			full, n, t.c.MaxLen, first)
	}
	return nil
}

// fillsLength reports whether a row's query leaves no room for the longest of its passages.
func (t *Task) fillsLength(r data.Row) (bool, error) {
	texts, _ := t.labeled(r)
	passage := slices.MaxFunc(texts, func(a, b string) int { return len(a) - len(b) })
	pair := scoring.Pair{Query: *r.Query, Passage: passage, Prompt: r.Prompt}
	with, err := t.m.Pair(pair, t.c.MaxLen)
	if err != nil || len(with.IDs) < t.c.MaxLen {
		return false, err
	}
	pair.Passage = ""
	without, err := t.m.Pair(pair, t.c.MaxLen) // an error means that the query has no token
	return err == nil && slices.Equal(with.IDs, without.IDs), nil
}

// MinBatch is one: no example needs another.
func (t *Task) MinBatch() int { return 1 }

// Encoder returns the model's encoder.
func (t *Task) Encoder() encoder.Config { return t.m.Encoder }

// Model describes the training graph.
func (t *Task) Model() artifact.Model {
	rows := t.c.BatchSize
	if t.loss.grouped {
		rows *= t.c.GroupSize
	}
	return t.model(encoder.Shape{Rows: rows, MaxLength: t.c.MaxLen, Groups: t.c.AttentionGroups, Layers: t.c.GradientCheckpointing, Half: t.c.Half()}.Chunk(t.c.TokensPerChunk(false)))
}

func (t *Task) model(s encoder.Shape) artifact.Model {
	bounds := t.m.Encoder.Bounds(s)
	bounds[pairRows] = bounds[encoder.TokensDim] // a chunk of short pairs has more of them than Rows
	return artifact.Model{
		Scaled: s.Half == onnx.Float16,
		Name:   "reranker", Params: t.m.Params(), Bounds: bounds, Chunked: t.c.TokensPerChunk(false) > 0 && t.loss.grouped,
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			places := t.m.head.pool.input(g)
			states := t.m.Encoder.BuildPacked(g, w, s, drop, t.m.head.pool.wanted(places))
			return t.m.logits(g, w, states, places, drop)
		},
		Loss: t.loss.graph,
	}
}

// labeled returns a row's passages with their labels, whatever the row's format.
func (t *Task) labeled(r data.Row) (texts []string, labels []float64) {
	switch r.Form() {
	case data.Labeled:
		return []string{*r.Content}, []float64{*r.Label}
	case data.Scored: // a teacher's scores are labels
		return r.Taught()
	case data.Grouped:
		for _, h := range r.Hits {
			texts, labels = append(texts, *h.Content), append(labels, *h.Label)
		}
		return texts, labels
	}
	for _, p := range r.Pos {
		texts, labels = append(texts, p), append(labels, t.c.MaxLabel)
	}
	for _, n := range r.Neg {
		texts, labels = append(texts, n), append(labels, t.c.MinLabel)
	}
	return texts, labels
}

// Examples makes an example of every passage for a point-wise loss. For a group-wise one it makes ceil(hits /
// train_group_size) groups of a row of hits or scores, and one of positives and negatives. A row in which nothing can be
// told apart is idle.
func (t *Task) Examples(r data.Row) (int, error) {
	form := r.Form()
	if form == data.Queries {
		return 0, fmt.Errorf("a reranker needs rows of %s, %s, %s or %s", data.Labeled, data.Grouped, data.Scored, data.Pairs)
	}
	texts, labels := t.labeled(r)
	if !t.loss.grouped {
		for i, y := range labels {
			if y < t.c.MinLabel || y > t.c.MaxLabel {
				return 0, fmt.Errorf("label %d is %g, want %g to %g (see min_label and max_label)", i+1, y, t.c.MinLabel, t.c.MaxLabel)
			}
		}
		return len(texts), nil
	}
	switch {
	case form == data.Labeled:
		return 0, fmt.Errorf("the loss %s needs all passages of a query in a row: %s or %s", t.c.LossType, data.Grouped, data.Pairs)
	case len(texts) == 1:
		return 0, fmt.Errorf("it has one passage, nothing to tell it from: %w", data.ErrUninformative)
	case !differ(labels):
		return 0, fmt.Errorf("its labels are all %g: %w", labels[0], data.ErrUninformative)
	case slices.Min(texts) == slices.Max(texts):
		return 0, fmt.Errorf("its passages are all equal: %w", data.ErrUninformative)
	case form == data.Pairs:
		return 1, nil
	}
	return (len(texts) + t.c.GroupSize - 1) / t.c.GroupSize, nil
}

// Collate tokenizes examples.
func (t *Task) Collate(b data.Batch) ([]*ortrain.Batch, error) {
	var rows []encoder.Row
	var groups [][]float64
	for _, e := range b.Own() {
		texts, labels := t.passages(e, b.Epoch)
		for _, text := range texts {
			row, err := t.m.Pair(scoring.Pair{Query: *e.Row.Query, Passage: text, Prompt: e.Row.Prompt}, t.c.MaxLen)
			if err != nil {
				return nil, &data.ExampleError{Number: e.Number, Err: err}
			}
			rows = append(rows, row)
		}
		groups = append(groups, labels)
	}
	if t.loss.grouped {
		return []*ortrain.Batch{t.layOut(rows, groups)}, nil
	}
	return t.split(rows, groups), nil
}

// passages are an example's passages with what the loss is told of them.
func (t *Task) passages(e data.Example, epoch int) (texts []string, labels []float64) {
	if t.loss.grouped {
		return t.group(e, epoch)
	}
	texts, labels = t.labeled(e.Row)
	y := (labels[e.IndexInRow] - t.c.MinLabel) / (t.c.MaxLabel - t.c.MinLabel)
	return texts[e.IndexInRow : e.IndexInRow+1], []float64{y}
}

// layOut makes one batch of pairs; its chunks change the pairs' places, so the labels' order follows. It weighs as many
// rows as it has groups that count.
func (t *Task) layOut(rows []encoder.Row, groups [][]float64) *ortrain.Batch {
	b := ortrain.NewBatch()
	b.Rows = counting(groups)
	b.ConstantLoss = b.Rows == 0
	places, next := make([]int64, len(rows)), int64(0)
	t.m.Encoder.PackChunks(b, rows, t.c.AttentionGroups, t.c.TokensPerChunk(false), func(chunk *ortrain.Batch, members []int, starts []int64) {
		t.m.head.bind(chunk, encoder.Pick(rows, members), starts)
		for _, row := range members {
			places[row] = next
			next++
		}
	})
	t.loss.bind(b, groups, places)
	t.compareWithEqual(b, groups)
	return b
}

// compareWithEqual sets the batch's EqualScoresLoss.
func (t *Task) compareWithEqual(b *ortrain.Batch, groups [][]float64) {
	if t.loss.equal != nil {
		b.EqualScoresLoss = func() float64 { return t.loss.equal(groups) }
	}
}

// split makes micro-batches of at most chunk_tokens tokens: a point-wise loss needs no more than its own pairs.
func (t *Task) split(rows []encoder.Row, labels [][]float64) []*ortrain.Batch {
	var out []*ortrain.Batch
	for _, members := range encoder.Chunks(rows, t.c.TokensPerChunk(false)) {
		b := ortrain.NewBatch()
		b.Rows = len(members)
		picked := encoder.Pick(rows, members)
		t.m.head.bind(b, picked, t.m.Encoder.Pack(b, picked, t.c.AttentionGroups))
		t.loss.bind(b, encoder.Pick(labels, members), nil)
		t.compareWithEqual(b, encoder.Pick(labels, members))
		out = append(out, b)
	}
	return out
}

// group is the group that an example stands for in an epoch. A row's hits are dealt out anew each epoch, all groups of
// the row from one shuffle; the last one is filled up with the first of the others. A row of positives and negatives has
// one group, with a positive in it.
func (t *Task) group(e data.Example, epoch int) (texts []string, labels []float64) {
	allTexts, allLabels := t.labeled(e.Row)
	n, size := len(allTexts), t.c.GroupSize
	if n <= size {
		return allTexts, allLabels
	}
	order := data.Draw(t.c.Seed, e.Number-e.IndexInRow, epoch, n, indices(n))
	members := order[:size]
	if e.Row.Form() == data.Pairs {
		bestFirst(order, allLabels)
	} else {
		from, to := e.IndexInRow*size, min((e.IndexInRow+1)*size, n)
		members = slices.Concat(order[from:to], order[:size-(to-from)])
	}
	for _, i := range members {
		texts, labels = append(texts, allTexts[i]), append(labels, allLabels[i])
	}
	return texts, labels
}

// bestFirst brings one passage with the largest label and one with another to the front of an order.
func bestFirst(order []int, labels []float64) {
	best := slices.Max(labels)
	moveToFront := func(from int, wanted func(y float64) bool) {
		for k := from; k < len(order); k++ {
			if wanted(labels[order[k]]) {
				order[from], order[k] = order[k], order[from]
				return
			}
		}
	}
	moveToFront(0, func(y float64) bool { return y == best })
	moveToFront(1, func(y float64) bool { return y != best })
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Save writes the model as a folder, with LoRA and without merge as that of an adapter: see Model.Save.
func (t *Task) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Loss, c.MaxLen = t.c.LossType, t.c.MaxLen
	whole := *t.m
	whole.Encoder.LoRA = nil
	return modelfolder.Trained{Model: t.m, Whole: &whole, Encoder: t.m.Encoder, Merge: t.c.Merge}.Save(dir, c, l, parameters)
}
