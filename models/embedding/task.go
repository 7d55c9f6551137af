package embedding

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
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// vectorLoss makes a scalar loss of query and passage vectors.
type vectorLoss func(q, p *onnx.Value) *onnx.Value

// Task fine-tunes an embedding model with one of its losses.
type Task struct {
	m       *Model
	c       config.Train
	teacher *teacher
	fresh   string // says that mrl_dims made a new dense layer; empty: they did not
	gather  bool   // the loss compares a query with the passages of all ranks
}

// NewTask opens the base model.
func NewTask(c config.Train) (finetune.Task, error) {
	m, err := OpenBase(c.Model)
	if err != nil {
		return nil, err
	}
	t := &Task{m: m, c: c}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Task) open() (err error) {
	if t.m.Config.Formats, err = t.c.Formats(t.m.Config.Formats); err != nil {
		return err
	}
	if err := finetune.SetTrained(t.c, &t.m.Encoder); err != nil {
		return err
	}
	if err := errors.Join(t.m.Encoder.SetFusedAttention(t.c.FusedAttention), t.c.CheckFused(t.m.Encoder.AttentionDropout)); err != nil {
		return err
	}
	if err := t.m.checkLengths("query_max_len", t.c.QueryMaxLen); err != nil {
		return err
	}
	if err := t.m.checkLengths("passage_max_len", t.c.PassageMaxLen); err != nil {
		return err
	}
	want := t.m.Width()
	if t.c.UseMRL {
		if slices.Min(t.c.MRLDims) < 1 {
			return fmt.Errorf("mrl_dims are %v, want positive numbers", t.c.MRLDims)
		}
		want = max(want, int64(slices.Max(t.c.MRLDims)))
	}
	if t.c.LossType == "stella" {
		if t.c.SkipBadRows {
			return errors.New("skip_bad_rows would part the rows from their teacher's vectors")
		}
		if t.teacher, err = openTeacher(t.c.Teacher, t.c.TeacherDim); err != nil {
			return err
		}
		if t.c.UseMRL && slices.Max(t.c.MRLDims) > t.c.TeacherDim {
			return fmt.Errorf("mrl_dims are %v, want at most teacher_embedding_dim %d", t.c.MRLDims, t.c.TeacherDim)
		}
		want = int64(t.c.TeacherDim)
	}
	if want != t.m.Width() { // a new linear layer of that width, as in RAG-Retrieval
		if t.m.Config.Dense != nil {
			return fmt.Errorf("%s already has a dense layer of width %d, not %d", t.m.Dir, t.m.Width(), want)
		}
		if t.c.LossType != "stella" { // there the layer is what teacher_embedding_dim asks for
			t.fresh = fmt.Sprintf("mrl_dims: the base model's vectors have %d numbers: a dense layer from %[1]d to %d starts at random", t.m.Width(), want)
		}
		t.m.Config.Dense = []*Dense{{In: t.m.Encoder.HiddenSize, Out: want, Bias: true, Activation: "Identity", Seed: t.c.Seed}}
	}
	return nil
}

// Close frees the model and the teacher.
func (t *Task) Close() error { return errors.Join(t.m.Close(), t.teacher.Close()) }

// Fill reads the base model's weights.
func (t *Task) Fill(l *flat.Layout, parameters []float32) error {
	return t.m.Fill(hf.Buffer{Layout: l, Data: parameters})
}

// Notes implements finetune.Noter.
func (t *Task) Notes() []string {
	if t.fresh == "" {
		return nil
	}
	return []string{t.fresh}
}

// Check fails if a teacher's vectors do not match the rows.
func (t *Task) Check(d *data.Dataset) error {
	if t.teacher == nil {
		return nil
	}
	return t.teacher.check(d)
}

// MinBatch is 2 for losses that compare the examples of a batch, otherwise 1.
func (t *Task) MinBatch() int {
	if t.c.LossType == "cosine" || t.c.LossType == "infonce" && t.c.NegNums > 0 {
		return 1
	}
	return 2
}

// shape bounds one pass of the encoder.
func (t *Task) shape() encoder.Shape {
	return encoder.Shape{
		Rows: t.c.BatchSize * (2 + t.c.NegNums), MaxLength: max(t.c.QueryMaxLen, t.c.PassageMaxLen), Groups: t.c.AttentionGroups,
		Layers: t.c.GradientCheckpointing, Half: t.c.Half(),
	}.Chunk(t.tokensPerChunk())
}

// Gather implements finetune.Gatherer.
func (t *Task) Gather() { t.gather = true }

// tokensPerChunk is how many tokens are encoded at once, see config.Train.TokensPerChunk.
func (t *Task) tokensPerChunk() int { return t.c.TokensPerChunk(t.gather) }

// Encoder returns the model's encoder.
func (t *Task) Encoder() encoder.Config { return t.m.Encoder }

// Model describes the training graph.
func (t *Task) Model() artifact.Model { return t.model(t.shape()) }

func (t *Task) model(s encoder.Shape) artifact.Model {
	bounds := t.m.Encoder.Bounds(s)
	bounds[textRows] = bounds[encoder.TokensDim] // a chunk of short texts may have more texts than Rows
	return artifact.Model{
		Comparison: t.comparison(),
		Scaled:     s.Half == onnx.Float16,
		Name:       "embedding", Params: t.m.Params(), Bounds: bounds, Chunked: t.tokensPerChunk() > 0, OneChunk: t.tokensPerChunk() == config.OneChunk,
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			pooling := t.m.Config.pooling(g)
			hidden := t.m.Encoder.BuildPacked(g, w, s, drop, t.m.Config.wanted(pooling))
			return t.m.Config.pool(g, w, hidden, pooling)
		},
		Loss: func(g *onnx.Graph, v *onnx.Value) *onnx.Value {
			if t.c.LossType == "stella" {
				if !t.m.Config.Normalize {
					v = normalized(g, v)
				}
				return stella(g, v, int64(t.c.TeacherDim), t.cuts())
			}
			passages := contrast.PassagesDim
			if t.scored() {
				passages = contrast.QueriesDim // one passage for each query
			}
			return t.vectorLoss(g)(parts(g, v, passages))
		},
	}
}

// comparison returns the loss in the form that compares some queries with all passages; nil if it has none.
func (t *Task) comparison() *artifact.Comparison {
	if !t.c.Contrastive() {
		return nil
	}
	return &artifact.Comparison{
		QueryRows: onnx.NamedDim(contrast.QueriesDim), Passages: onnx.NamedDim(contrast.PassagesDim), Length: onnx.FixedDim(1),
		Loss: func(g *onnx.Graph, queries, passages *onnx.Value) *onnx.Value {
			return t.vectorLoss(g)(queries, g.Squeeze(passages, 1))
		},
	}
}

// cuts returns mrl_dims, or nil without use_mrl.
func (t *Task) cuts() []int {
	if !t.c.UseMRL {
		return nil
	}
	return t.c.MRLDims
}

// The inputs that split the vectors of all texts into those of queries and those of passages, see bindParts.
const (
	queryVectors   = "queries.vectors"
	passageVectors = "passages.vectors"
	vectorPlaces   = "texts.places"
)

// parts splits the vectors of all texts into those of the queries and those of the passages. passages names the dimension that
// counts the passages.
func parts(g *onnx.Graph, v *onnx.Value, passages string) (q, p *onnx.Value) {
	places := g.Input(vectorPlaces, onnx.Int64, v.Shape[0])
	x := grad.GatherParts(g, v, []*onnx.Value{
		g.Input(queryVectors, onnx.Int64, onnx.NamedDim(contrast.QueriesDim)), g.Input(passageVectors, onnx.Int64, onnx.NamedDim(passages)),
	}, places)
	return x[0], x[1]
}

// bindParts fills the index inputs that parts reads. order[v] is the text that vector v encodes; texts 0 to n-1 are queries, the
// rest are passages.
func bindParts(b *ortrain.Batch, order []int, n int) {
	total := len(order)
	at, places := make([]int64, total), make([]int64, total)
	for vector, text := range order {
		at[text], places[vector] = int64(vector), int64(text)
	}
	b.Int(queryVectors, at[:n], int64(n))
	b.Int(passageVectors, at[n:], int64(total-n))
	b.Int(vectorPlaces, places, int64(total))
}

// vectorLoss returns the loss of query and passage vectors, with use_mrl the mean over all cuts.
func (t *Task) vectorLoss(g *onnx.Graph) vectorLoss {
	loss := t.loss(g)
	if dims := t.cuts(); dims != nil {
		loss = matryoshka(g, loss, dims)
	}
	return loss
}

func (t *Task) loss(g *onnx.Graph) vectorLoss {
	switch t.c.LossType {
	case "cosine":
		return cosine(g)
	case "cosent":
		return cosent(g, t.c.Temperature)
	case "pair_kl":
		return pairKL(g, t.c.Temperature)
	}
	loss := contrast.InfoNCE(g)
	return func(q, p *onnx.Value) *onnx.Value {
		return loss(g.FusedMatMul(q, p, onnx.FusedMatMulAttrs{Alpha: float32(1 / t.c.Temperature), TransB: true}))
	}
}

// scored reports whether the loss reads pairs with scores.
func (t *Task) scored() bool {
	return slices.Contains([]string{"cosine", "cosent", "pair_kl"}, t.c.LossType)
}

// Examples makes one example for each positive, each scored pair, or each row with a teacher's vector.
func (t *Task) Examples(r data.Row) (int, error) {
	form := r.Form()
	switch {
	case t.c.LossType == "stella":
		return 1, nil
	case t.scored() && form != data.Scored:
		return 0, fmt.Errorf("the loss %s needs rows of %s", t.c.LossType, data.Scored)
	case form == data.Queries:
		return 0, errors.New(`"pos" is missing`)
	case !t.scored() && form != data.Pairs && form != data.Scored:
		return 0, fmt.Errorf("the loss %s needs rows of %s", t.c.LossType, data.Pairs)
	case !t.scored() && t.c.NegNums > 0 && len(r.Neg) == 0:
		return 0, errors.New(`"neg" is missing or empty, but neg_nums asks for negatives`)
	}
	if t.scored() {
		texts, _ := r.Taught()
		return len(texts), nil
	}
	return len(r.Pos), nil
}

// Collate tokenizes the examples: all queries, then the passages of each query.
func (t *Task) Collate(batch data.Batch) ([]*ortrain.Batch, error) {
	if t.c.LossType == "stella" {
		b, err := t.collateTexts(batch.Own())
		return []*ortrain.Batch{b}, err
	}
	x := t.texts(batch.Epoch, batch.Own())
	rows, err := data.MapTexts(slices.Concat(x.Queries, x.Passages), t.row)
	if err != nil {
		return nil, err
	}
	b := ortrain.NewBatch()
	b.Rows = len(x.Queries)
	order := t.pack(b, rows)
	switch {
	case t.scored():
		bindParts(b, order, b.Rows)
		_, scores := data.TaughtTexts(batch.Own())
		bindScores(b, t.c.LossType, scores, t.c.Temperature)
		b.EqualScoresLoss = equalScoresLoss(t.c.LossType, scores)
		b.ConstantLoss = idle(t.c.LossType, data.Strings(x.Queries), data.Strings(x.Passages), scores)
	case t.tokensPerChunk() == 0:
		bindParts(b, order, b.Rows)
		c := t.candidates(x)
		c.Bind(b, 0, b.Rows)
		b.EqualScoresLoss = func() float64 { return c.EqualScoresLoss(0, b.Rows) }
		b.ConstantLoss = c.ConstantLoss()
	default:
		t.compare(b, batch, order)
	}
	return []*ortrain.Batch{b}, nil
}

// texts returns the texts that the loss compares. A scored pair has no further passages.
func (t *Task) texts(epoch int, examples []data.Example) data.Texts {
	if t.scored() {
		x, _ := data.TaughtTexts(examples)
		return x
	}
	return data.TextsOf(examples, t.c.Seed, epoch, t.c.NegNums)
}

func (t *Task) candidates(x data.Texts) *contrast.Candidates {
	d := contrast.Denominator{HardOnly: t.c.Negatives == "hard", MaskDuplicates: t.c.MaskDuplicates}
	return d.Candidates(data.Strings(x.Queries), data.Strings(x.Passages), x.Positives, x.Known)
}

// compare sets what the loss compares: this rank's queries with the passages of the whole batch. order[v] is the text that
// vector v encodes, where this rank's queries come first.
func (t *Task) compare(b *ortrain.Batch, batch data.Batch, order []int) {
	at, one := make([]int64, len(order)), make([]int, len(order)) // a text has one vector
	for vector, text := range order {
		at[text], one[text] = int64(vector), 1
	}
	c := t.candidates(t.texts(batch.Epoch, batch.Examples))
	b.ConstantLoss = c.ConstantLoss()
	b.EqualScoresLoss = func() float64 { return c.EqualScoresLoss(batch.From, batch.From+b.Rows) }
	b.Comparison = &ortrain.Comparison{
		Queries:  ortrain.Items{Rows: at[:b.Rows], Lengths: one[:b.Rows]},
		Passages: ortrain.Items{Rows: at[b.Rows:], Lengths: one[b.Rows:]},
		Bind:     func(loss *ortrain.Batch, from, to int, _ []int) { c.Bind(loss, batch.From+from, batch.From+to) },
	}
}

// row tokenizes a text.
func (t *Task) row(x prompt.Text) (encoder.Row, error) {
	if x.Query {
		return t.m.row(x, t.c.QueryMaxLen)
	}
	return t.m.row(x, t.c.PassageMaxLen)
}

// collateTexts is Collate for stella, where each row has a text and a teacher's vector.
func (t *Task) collateTexts(examples []data.Example) (*ortrain.Batch, error) {
	texts := make([]data.Text, len(examples))
	vectors := make([][]float32, len(examples))
	for i, e := range examples {
		var err error
		if vectors[i], err = t.teacher.vector(e.Number); err != nil {
			return nil, err
		}
		texts[i] = e.Query()
	}
	rows, err := data.MapTexts(texts, func(x prompt.Text) (encoder.Row, error) { return t.m.row(x, t.c.QueryMaxLen) })
	if err != nil {
		return nil, err
	}
	out := ortrain.NewBatch()
	out.Rows = len(rows)
	bindStella(out, encoder.Pick(vectors, t.pack(out, rows)))
	return out, nil
}

// pack packs rows for the encoder. order[v] is the row that vector v will encode.
func (t *Task) pack(out *ortrain.Batch, rows []encoder.Row) (order []int) {
	tokens := min(t.tokensPerChunk(), t.shape().MostTokens()) // a validation's batch may be as large as those of all ranks together
	t.m.Encoder.PackChunks(out, rows, t.c.AttentionGroups, tokens, func(b *ortrain.Batch, members []int, starts []int64) {
		t.m.Config.bindPooling(b, starts, encoder.Lengths(encoder.Pick(rows, members)))
		order = append(order, members...)
	})
	return order
}

// Save writes the model as a folder, with LoRA and without merge as that of an adapter: see Model.Save.
func (t *Task) Save(dir string, c modelcard.Card, l *flat.Layout, parameters []float32) error {
	c.Loss, c.QueryMaxLen, c.PassageMaxLen, c.Temperature = t.c.LossType, t.c.QueryMaxLen, t.c.PassageMaxLen, t.c.Temperature
	whole := *t.m
	whole.Encoder.LoRA = nil
	return modelfolder.Trained{Model: t.m, Whole: &whole, Encoder: t.m.Encoder, Merge: t.c.Merge}.Save(dir, c, l, parameters)
}
