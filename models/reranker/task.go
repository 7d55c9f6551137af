package reranker

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"rag-retrieval-go/models/card"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Task is the fine-tuning of a reranker with one of its losses.
type Task struct {
	m    *Model
	c    config.Train
	loss loss
}

// NewTask opens the base model.
func NewTask(c config.Train) (finetune.Task, error) {
	m, err := OpenBase(c.Model)
	if err != nil {
		return nil, err
	}
	if c.Dropout >= 0 {
		m.Encoder.SetDropout(c.Dropout)
	}
	m.Encoder.FusedAttention = c.FusedAttention
	if err := errors.Join(c.CheckFused(m.Encoder.AttentionDropout), m.checkLength("max_len", c.MaxLen)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Task{m, c, losses[c.LossType]}, nil
}

// Close frees the model.
func (t *Task) Close() error { return t.m.Close() }

// Fill reads the base model's weights; a head that it lacks is new.
func (t *Task) Fill(l *flat.Layout, parameters []float32) error {
	fresh, err := t.m.Start(l, parameters, t.c.Seed)
	if err == nil && len(fresh) > 0 {
		fmt.Fprintf(os.Stderr, "the base model has no score yet: %d tensors start at random (%s …)\n", len(fresh), fresh[0])
	}
	return err
}

// Least is one: no example needs another.
func (t *Task) Least() int { return 1 }

// Encoder is the model's encoder.
func (t *Task) Encoder() encoder.Config { return t.m.Encoder }

// Model describes the training graph.
func (t *Task) Model() artifact.Model {
	rows := t.c.BatchSize
	if t.loss.grouped {
		rows *= t.c.GroupSize
	}
	return t.model(encoder.Shape{Rows: rows, MaxLength: t.c.MaxLen, Groups: t.c.AttentionGroups, Layers: t.c.GradientCheckpointing, Half: t.c.Half()}.Chunk(t.c.Chunk()))
}

func (t *Task) model(s encoder.Shape) artifact.Model {
	bounds := t.m.Encoder.Bounds(s)
	bounds[pairRows] = bounds[encoder.TokensDim] // a chunk of short pairs has more of them than Rows
	return artifact.Model{
		Scaled: s.Half == onnx.Float16,
		Name:   "reranker", Params: t.m.Params(), Bounds: bounds, Chunked: t.c.Chunk() > 0 && t.loss.grouped,
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			states, l := t.m.Encoder.BuildPacked(g, w, s, drop, first(g))
			return t.m.logits(g, w, l, states, drop)
		},
		Compare: t.loss.graph,
	}
}

// labeled are a row's passages with their labels, in whichever format it is.
func (t *Task) labeled(r data.Row) (texts []string, labels []float64) {
	switch r.Form() {
	case data.Labeled:
		return []string{*r.Content}, []float64{*r.Label}
	case data.Scored: // a teacher's scores are labels
		return r.Pos, r.Scores
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

// Examples makes an example of every passage for a point-wise loss, and of every row for a group-wise one. A group
// whose labels are all the same teaches a group-wise loss nothing and is left out.
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
	if form == data.Labeled {
		return 0, fmt.Errorf("the loss %s needs all passages of a query in a row: %s or %s", t.c.LossType, data.Grouped, data.Pairs)
	}
	if slices.Min(labels) == slices.Max(labels) {
		return 0, nil
	}
	return 1, nil
}

// Collate tokenizes examples.
func (t *Task) Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	var rows []encoder.Row
	var groups [][]float64
	for _, e := range examples {
		texts, labels := t.labeled(e.Row)
		if t.loss.grouped {
			texts, labels = t.draw(e.Number, epoch, texts, labels)
		} else {
			y := (labels[e.Item] - t.c.MinLabel) / (t.c.MaxLabel - t.c.MinLabel)
			texts, labels = texts[e.Item:e.Item+1], []float64{y}
		}
		for _, text := range texts {
			rows = append(rows, t.m.Pair(e.Row.Text(), text, t.c.MaxLen))
		}
		groups = append(groups, labels)
	}
	if t.loss.grouped {
		return []*ortrain.Batch{t.layOut(rows, groups)}, nil
	}
	return t.split(rows, groups), nil
}

// layOut makes one batch of pairs; its chunks change the pairs' places, so the labels' order follows.
func (t *Task) layOut(rows []encoder.Row, groups [][]float64) *ortrain.Batch {
	b := ortrain.NewBatch()
	b.Rows = len(groups)
	places, next := make([]int64, len(rows)), int64(0)
	t.m.Encoder.PackChunks(b, rows, t.c.AttentionGroups, t.c.Chunk(), func(chunk *ortrain.Batch, members []int, starts []int64) {
		t.m.bindFirst(chunk, starts)
		for _, row := range members {
			places[row] = next
			next++
		}
	})
	t.loss.bind(b, groups, places)
	return b
}

// split makes micro-batches of at most chunk_tokens tokens: a point-wise loss needs no more than its own pairs.
func (t *Task) split(rows []encoder.Row, labels [][]float64) []*ortrain.Batch {
	var out []*ortrain.Batch
	for _, members := range encoder.Chunks(rows, t.c.Chunk()) {
		b := ortrain.NewBatch()
		b.Rows = len(members)
		t.m.bindFirst(b, t.m.Encoder.Pack(b, encoder.Pick(rows, members), t.c.AttentionGroups))
		t.loss.bind(b, encoder.Pick(labels, members), nil)
		out = append(out, b)
	}
	return out
}

// draw picks at most train_group_size of a query's passages for this epoch, one with the largest label and one with
// another among them.
func (t *Task) draw(example, epoch int, texts []string, labels []float64) ([]string, []float64) {
	if len(texts) <= t.c.GroupSize {
		return texts, labels
	}
	order := data.Draw(t.c.Seed, example, epoch, len(texts), indices(len(texts)))
	best := slices.Max(labels)
	front := func(from int, wanted func(y float64) bool) {
		for k := from; k < len(order); k++ {
			if wanted(labels[order[k]]) {
				order[from], order[k] = order[k], order[from]
				return
			}
		}
	}
	front(0, func(y float64) bool { return y == best })
	front(1, func(y float64) bool { return y != best })
	var someTexts []string
	var someLabels []float64
	for _, i := range order[:t.c.GroupSize] {
		someTexts, someLabels = append(someTexts, texts[i]), append(someLabels, labels[i])
	}
	return someTexts, someLabels
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Save writes the model as a folder that transformers loads.
func (t *Task) Save(dir string, c card.Card, l *flat.Layout, parameters []float32) error {
	c.Loss, c.MaxLen = t.c.LossType, t.c.MaxLen
	return t.m.Save(dir, c, l, parameters)
}
