package colbert

import (
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Task fine-tunes a ColBERT model with one of its losses.
type Task struct {
	m *Model
	c config.Train
}

// NewTask opens the base model.
func NewTask(c config.Train) (finetune.Task, error) {
	m, err := OpenBase(c.Model, c.ColBERTDim, c.Seed)
	if err != nil {
		return nil, err
	}
	if c.Dropout >= 0 {
		m.Encoder.SetDropout(c.Dropout)
	}
	var formats error
	m.Formats, formats = c.Formats(m.Formats)
	err = errors.Join(formats, m.checkLengths("query_max_len", c.QueryMaxLen), m.checkLengths("passage_max_len", c.PassageMaxLen))
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Task{m, c}, nil
}

// Close frees the model.
func (t *Task) Close() error { return t.m.Close() }

// Fill reads the base model's weights. If it has no projection, a new one is made.
func (t *Task) Fill(l *flat.Layout, parameters []float32) error {
	return t.m.Fill(hf.Buffer{Layout: l, Data: parameters})
}

// Notes implements finetune.Noter.
func (t *Task) Notes() []string {
	if !t.m.fresh() {
		return nil
	}
	return []string{fmt.Sprintf("the base model has no projection yet: one of width %d starts at random", t.m.Dim)}
}

// distils reports whether the loss reads a teacher's scores.
func (t *Task) distils() bool { return t.c.LossType == "kl" }

// MinBatch is 2 if the passages of other queries are the only negatives, otherwise 1.
func (t *Task) MinBatch() int {
	if t.distils() || t.c.NegNums > 0 {
		return 1
	}
	return 2
}

// Encoder returns the model's encoder.
func (t *Task) Encoder() encoder.Config { return t.m.Encoder }

// Model describes the training graph.
func (t *Task) Model() artifact.Model {
	perQuery := 2 + t.c.NegNums
	if t.distils() {
		perQuery = 1 + t.c.GroupSize
	}
	return t.model(encoder.Shape{
		Rows: t.c.BatchSize * perQuery, MaxLength: max(t.c.QueryMaxLen, t.c.PassageMaxLen), Groups: t.c.AttentionGroups,
		Layers: t.c.GradientCheckpointing, Half: t.c.Half(),
	}.Chunk(t.c.TokensPerChunk()))
}

func (t *Task) model(s encoder.Shape) artifact.Model {
	return artifact.Model{
		Scaled: s.Half == onnx.Float16,
		Name:   "colbert", Params: t.m.Params(), Bounds: t.m.Encoder.Bounds(s), Chunked: t.c.TokensPerChunk() > 0,
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			hidden := t.m.Encoder.BuildPacked(g, w, s, drop, nil)
			return t.m.project(g, w, hidden)
		},
		Loss: func(g *onnx.Graph, vectors *onnx.Value) *onnx.Value {
			scores := maxSim(g, vectors, vectors)
			scores = g.Mul(scores, g.Scalar(scores, 1/t.c.Temperature))
			if t.distils() {
				return contrast.KL(g, scores)
			}
			return contrast.InfoNCE(g)(scores)
		},
	}
}

// Examples makes one example for each positive, or for each row with a teacher's scores.
func (t *Task) Examples(r data.Row) (int, error) {
	form := r.Form()
	switch {
	case t.distils() && form != data.Scored:
		return 0, fmt.Errorf("the loss %s needs rows of %s", t.c.LossType, data.Scored)
	case t.distils() && len(r.Pos) < 2:
		return 0, errors.New(`"pos" has one text: a teacher's scores of several passages are needed`)
	case t.distils() && slices.Min(r.Pos) == slices.Max(r.Pos):
		return 0, fmt.Errorf("its passages are all equal: %w", data.ErrUninformative)
	case t.distils():
		return 1, nil
	case form == data.Queries:
		return 0, errors.New(`"pos" is missing`)
	case form != data.Pairs && form != data.Scored:
		return 0, fmt.Errorf("the loss %s needs rows of %s", t.c.LossType, data.Pairs)
	case t.c.NegNums > 0 && len(r.Neg) == 0:
		return 0, errors.New(`"neg" is missing or empty, but neg_nums asks for negatives`)
	}
	return len(r.Pos), nil
}

// Collate tokenizes the examples: all queries, then all passages.
func (t *Task) Collate(epoch int, examples []data.Example) ([]*ortrain.Batch, error) {
	var queries, positives, negatives []data.Text
	var known [][]string
	var groups [][]float64
	for _, e := range examples {
		queries = append(queries, e.Query())
		if t.distils() {
			texts, scores := t.draw(e, epoch)
			positives, groups = append(positives, e.Passages(texts...)...), append(groups, scores)
			continue
		}
		positives, known = append(positives, e.Passages(e.Row.Pos[e.IndexInRow])...), append(known, e.Row.Pos)
		negatives = append(negatives, e.Passages(data.Draw(t.c.Seed, e.Number, epoch, t.c.NegNums, e.Row.Neg)...)...)
	}
	passages := append(positives, negatives...)
	rows, err := data.MapTexts(append(queries, passages...), t.row)
	if err != nil {
		return nil, err
	}
	b := t.layOut(rows, len(queries))
	if t.distils() {
		contrast.BindKL(b, groups, data.Strings(passages))
	} else {
		contrast.Denominator{HardOnly: t.c.Negatives == "hard", MaskDuplicates: t.c.MaskDuplicates}.Bind(b, data.Strings(queries), data.Strings(passages), known)
	}
	return []*ortrain.Batch{b}, nil
}

// row tokenizes a text.
func (t *Task) row(x prompt.Text) (encoder.Row, error) {
	if x.Query {
		return t.m.row(x, t.c.QueryMaxLen)
	}
	return t.m.row(x, t.c.PassageMaxLen)
}

// layOut packs tokenized rows, queries first.
func (t *Task) layOut(rows []encoder.Row, queries int) *ortrain.Batch {
	b := ortrain.NewBatch()
	b.Rows = queries
	firsts, before := make([]int64, len(rows)), int64(0) // the index of each row's first token over all chunks
	t.m.Encoder.PackChunks(b, rows, t.c.AttentionGroups, t.c.TokensPerChunk(), func(chunk *ortrain.Batch, members []int, starts []int64) {
		for i, row := range members {
			firsts[row] = before + starts[i]
		}
		before += chunk.Dims[encoder.TokensDim]
	})
	t.m.bindQueries(b, t.m.countedPlaces(rows[:queries], firsts[:queries], false))
	bindPassages(b, t.m.countedPlaces(rows[queries:], firsts[queries:], true))
	return b
}

// draw selects at most train_group_size of a query's passages for an epoch.
func (t *Task) draw(e data.Example, epoch int) (texts []string, scores []float64) {
	if len(e.Row.Pos) <= t.c.GroupSize {
		return slices.Clone(e.Row.Pos), e.Row.Scores
	}
	all := make([]int, len(e.Row.Pos))
	for i := range all {
		all[i] = i
	}
	for _, i := range data.Draw(t.c.Seed, e.Number, epoch, t.c.GroupSize, all) {
		texts, scores = append(texts, e.Row.Pos[i]), append(scores, e.Row.Scores[i])
	}
	return texts, scores
}

// Save writes the model as a folder that sentence-transformers loads.
func (t *Task) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Loss, c.QueryMaxLen, c.PassageMaxLen, c.Temperature = t.c.LossType, t.c.QueryMaxLen, t.c.PassageMaxLen, t.c.Temperature
	return t.m.Save(dir, c, l, parameters)
}
