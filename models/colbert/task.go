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
	"rag-retrieval-go/models/modelfolder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Task fine-tunes a ColBERT model with one of its losses.
type Task struct {
	m      *Model
	c      config.Train
	gather bool // the loss compares a query with the passages of all ranks
}

// NewTask opens the base model.
func NewTask(c config.Train) (finetune.Task, error) {
	m, err := OpenBase(c.Model, c.ColBERTDim, c.Seed)
	if err != nil {
		return nil, err
	}
	var formats error
	m.Formats, formats = c.Formats(m.Formats)
	err = errors.Join(finetune.SetTrained(c, &m.Encoder), formats, m.checkLengths("query_max_len", c.QueryMaxLen), m.checkLengths("passage_max_len", c.PassageMaxLen))
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return &Task{m: m, c: c}, nil
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

// Gather implements finetune.Gatherer.
func (t *Task) Gather() { t.gather = true }

// tokensPerChunk is how many tokens are encoded at once, see config.Train.TokensPerChunk.
func (t *Task) tokensPerChunk() int { return t.c.TokensPerChunk(t.gather) }

// Encoder returns the model's encoder.
func (t *Task) Encoder() encoder.Config { return t.m.Encoder }

// shape bounds one pass of the encoder.
func (t *Task) shape() encoder.Shape {
	perQuery := 2 + t.c.NegNums
	if t.distils() {
		perQuery = 1 + t.c.GroupSize
	}
	return encoder.Shape{
		Rows: t.c.BatchSize * perQuery, MaxLength: max(t.c.QueryMaxLen, t.c.PassageMaxLen), Groups: t.c.AttentionGroups,
		Layers: t.c.GradientCheckpointing, Half: t.c.Half(),
	}.Chunk(t.tokensPerChunk())
}

// Model describes the training graph.
func (t *Task) Model() artifact.Model { return t.model(t.shape()) }

func (t *Task) model(s encoder.Shape) artifact.Model {
	return artifact.Model{
		Comparison: t.comparison(),
		Scaled:     s.Half == onnx.Float16,
		Name:       "colbert", Params: t.m.Params(), Bounds: t.m.Encoder.Bounds(s), Chunked: t.tokensPerChunk() > 0, OneChunk: t.tokensPerChunk() == config.OneChunk,
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			hidden := t.m.Encoder.BuildPacked(g, w, s, drop, nil)
			return t.m.project(g, w, hidden)
		},
		Loss: func(g *onnx.Graph, vectors *onnx.Value) *onnx.Value {
			scores := maxSim(g, vectors, vectors)
			if t.distils() {
				return contrast.KL(g, t.scaled(g, scores))
			}
			return contrast.InfoNCE(g)(t.scaled(g, scores))
		},
	}
}

// scaled divides scores by the temperature.
func (t *Task) scaled(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	return g.Mul(scores, g.Scalar(scores, 1/t.c.Temperature))
}

// comparison returns the loss in the form that compares some queries with all passages; nil if it has none.
func (t *Task) comparison() *artifact.Comparison {
	if !t.c.Contrastive() {
		return nil
	}
	return &artifact.Comparison{
		QueryRows: onnx.NamedDim(countedTokens), Passages: onnx.NamedDim(contrast.PassagesDim), Length: onnx.NamedDim(passageLength),
		Loss: func(g *onnx.Graph, queries, passages *onnx.Value) *onnx.Value {
			flat := g.ReshapeTo(passages, -1, passages.Shape[2].Size)
			return contrast.InfoNCE(g)(t.scaled(g, maxSimPadded(g, queries, flat, padding(g))))
		},
	}
}

// Examples makes one example for each positive, or for each row with a teacher's scores.
func (t *Task) Examples(r data.Row) (int, error) {
	form := r.Form()
	taught, _ := r.Taught()
	switch {
	case t.distils() && form != data.Scored:
		return 0, fmt.Errorf("the loss %s needs rows of %s", t.c.LossType, data.Scored)
	case t.distils() && len(taught) < 2:
		return 0, errors.New(`"pos" has one text: a teacher's scores of several passages are needed`)
	case t.distils() && slices.Min(taught) == slices.Max(taught):
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

// Collate tokenizes the examples: all queries, then the passages of each query.
func (t *Task) Collate(batch data.Batch) ([]*ortrain.Batch, error) {
	if t.distils() {
		return t.collateScored(batch)
	}
	x := t.texts(batch.Epoch, batch.Own())
	rows, err := data.MapTexts(slices.Concat(x.Queries, x.Passages), t.row)
	if err != nil {
		return nil, err
	}
	b, queries, passages := t.layOut(rows, len(x.Queries))
	c := t.candidates(t.texts(batch.Epoch, batch.Examples))
	b.ConstantLoss = c.ConstantLoss()
	b.EqualScoresLoss = func() float64 { return c.EqualScoresLoss(batch.From, batch.From+b.Rows) }
	if t.tokensPerChunk() == 0 {
		t.bindPlaces(b, queries, passages)
		c.Bind(b, 0, b.Rows)
	} else {
		t.compare(b, c, batch.From, queries, passages)
	}
	return []*ortrain.Batch{b}, nil
}

func (t *Task) texts(epoch int, examples []data.Example) data.Texts {
	return data.TextsOf(examples, t.c.Seed, epoch, t.c.NegNums)
}

func (t *Task) candidates(x data.Texts) *contrast.Candidates {
	d := contrast.Denominator{HardOnly: t.c.Negatives == "hard", MaskDuplicates: t.c.MaskDuplicates}
	return d.Candidates(data.Strings(x.Queries), data.Strings(x.Passages), x.Positives, x.Known)
}

// compare sets what the loss compares: this rank's queries, the first of which is query number first of the whole batch, with
// the passages of the whole batch. queries and passages are the places of each text's counted tokens among the vectors.
func (t *Task) compare(b *ortrain.Batch, c *contrast.Candidates, first int, queries, passages [][]int64) {
	b.Comparison = &ortrain.Comparison{
		Queries:  ortrain.Items{Rows: slices.Concat(queries...), Lengths: countEach(queries)},
		Passages: ortrain.Items{Rows: slices.Concat(passages...), Lengths: countEach(passages)},
		Bind: func(loss *ortrain.Batch, from, to int, lengths []int) {
			c.Bind(loss, first+from, first+to)
			t.m.bindShares(loss, countEach(queries[from:to]))
			bindPadding(loss, lengths)
		},
	}
}

func countEach(places [][]int64) []int {
	out := make([]int, len(places))
	for i, p := range places {
		out[i] = len(p)
	}
	return out
}

// collateScored is Collate for the loss that reads a teacher's scores of each query's own passages.
func (t *Task) collateScored(batch data.Batch) ([]*ortrain.Batch, error) {
	var texts, passages []data.Text
	var groups [][]float64
	for _, e := range batch.Own() {
		drawn, scores := t.draw(e, batch.Epoch)
		texts, passages, groups = append(texts, e.Query()), append(passages, e.Passages(drawn...)...), append(groups, scores)
	}
	rows, err := data.MapTexts(slices.Concat(texts, passages), t.row)
	if err != nil {
		return nil, err
	}
	b, queryPlaces, passagePlaces := t.layOut(rows, len(texts))
	t.bindPlaces(b, queryPlaces, passagePlaces)
	contrast.BindKL(b, groups, data.Strings(passages))
	return []*ortrain.Batch{b}, nil
}

// row tokenizes a text.
func (t *Task) row(x prompt.Text) (encoder.Row, error) {
	if x.Query {
		return t.m.row(x, t.c.QueryMaxLen)
	}
	return t.m.row(x, t.c.PassageMaxLen)
}

// layOut packs tokenized rows, queries first. It returns the places of each text's counted tokens among the vectors.
func (t *Task) layOut(rows []encoder.Row, n int) (b *ortrain.Batch, queries, passages [][]int64) {
	b = ortrain.NewBatch()
	b.Rows = n
	firsts, before := make([]int64, len(rows)), int64(0)      // the index of each row's first token over all chunks
	tokens := min(t.tokensPerChunk(), t.shape().MostTokens()) // a validation's batch may be as large as those of all ranks together
	t.m.Encoder.PackChunks(b, rows, t.c.AttentionGroups, tokens, func(chunk *ortrain.Batch, members []int, starts []int64) {
		for i, row := range members {
			firsts[row] = before + starts[i]
		}
		before += chunk.Dims[encoder.TokensDim]
	})
	return b, t.m.countedPlaces(rows[:n], firsts[:n], false), t.m.countedPlaces(rows[n:], firsts[n:], true)
}

// bindPlaces sets the inputs of maxSim.
func (t *Task) bindPlaces(b *ortrain.Batch, queries, passages [][]int64) {
	t.m.bindQueries(b, queries)
	bindPassages(b, passages)
}

// draw selects at most train_group_size of a query's passages for an epoch.
func (t *Task) draw(e data.Example, epoch int) (texts []string, scores []float64) {
	taught, taughtScores := e.Row.Taught()
	if len(taught) <= t.c.GroupSize {
		return slices.Clone(taught), taughtScores
	}
	all := make([]int, len(taught))
	for i := range all {
		all[i] = i
	}
	for _, i := range data.Draw(t.c.Seed, e.Number, epoch, t.c.GroupSize, all) {
		texts, scores = append(texts, taught[i]), append(scores, taughtScores[i])
	}
	return texts, scores
}

// Save writes the model as a folder, with LoRA and without merge as that of an adapter: see Model.Save.
func (t *Task) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Loss, c.QueryMaxLen, c.PassageMaxLen, c.Temperature = t.c.LossType, t.c.QueryMaxLen, t.c.PassageMaxLen, t.c.Temperature
	whole := *t.m
	whole.Encoder.LoRA = nil
	return modelfolder.Trained{Model: t.m, Whole: &whole, Encoder: t.m.Encoder, Merge: t.c.Merge}.Save(dir, c, l, parameters)
}
