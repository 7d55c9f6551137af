package embedding

import (
	"context"
	"errors"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
)

const textRows = "texts"

// Encoder encodes texts with a model's weights on ONNX Runtime. Several goroutines may use it at once.
type Encoder struct {
	m       *Model
	session *scoring.Session
	o       scoring.Options
}

// NewEncoder loads the model's weights into a session.
func NewEncoder(m *Model, o scoring.Options) (*Encoder, error) { return newEncoder(m, nil, o) }

// newEncoder loads the weights of a trainer, or where it is nil those of the folder.
func newEncoder(m *Model, t *ortrain.Trainer, o scoring.Options) (*Encoder, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "embedding scoring", Encoder: m.Encoder, Params: m.Params(), Fill: m.Fill, Trainer: t,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			if m.Config.Pooling == Mean {
				return m.Config.finish(g, w, encoder.TextMeans(g, textRows, m.Encoder.Build(g, w, l, encoder.Training{}, nil)))
			}
			pooling := m.Config.pooling(g)
			return m.Config.pool(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, m.Config.wanted(pooling)), pooling)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Encoder{m, s, o}, nil
}

// Close frees the session.
func (e *Encoder) Close() error { return e.session.Close() }

// Encode gives one vector [width] for each text, in order, of at most maxLength tokens each, as queries or as passages. progress
// hears how many texts are done; it may be nil. Equal texts are encoded once.
func (e *Encoder) Encode(ctx context.Context, texts []string, queries bool, maxLength int, progress func(done int)) ([][]float32, error) {
	if err := e.m.checkLengths("the maximal length", maxLength); err != nil {
		return nil, err
	}
	vectors, _, err := e.biEncoder(maxLength, maxLength).Encode(ctx, prompt.Texts(queries, texts...), scoring.CutEnd, progress)
	return vectors, err
}

// BiEncoder encodes queries and passages of at most so many tokens, and ranks by the cosine of their vectors.
func (e *Encoder) BiEncoder(queryMaxLen, passageMaxLen int) (scoring.BiEncoder[[]float32], error) {
	err := e.m.checkLengths("the maximal length of queries", queryMaxLen)
	if err == nil {
		err = e.m.checkLengths("the maximal length of passages", passageMaxLen)
	}
	return e.biEncoder(queryMaxLen, passageMaxLen), err
}

func (e *Encoder) biEncoder(queryMaxLen, passageMaxLen int) scoring.BiEncoder[[]float32] {
	return scoring.BiEncoder[[]float32]{
		Rows: func(x prompt.Text, long scoring.LongText) ([]encoder.Row, error) {
			if x.Query {
				return e.m.rows(x, queryMaxLen, long)
			}
			return e.m.rows(x, passageMaxLen, long)
		},
		Forward: e.forward, Similarity: Cosines, Windows: e.o.MaxWindow, Block: scoring.VectorBlock, BatchTokens: e.o.BatchTokens,
		Ranks: e.o.Ranks, Carrier: scoring.Vectors,
	}
}

// forward encodes the rows of one batch.
func (e *Encoder) forward(rows []encoder.Row) ([][]float32, error) {
	b := ortrain.NewBatch()
	starts := e.m.Encoder.Pack(b, rows, scoring.Groups)
	if lengths := encoder.Lengths(rows); e.m.Config.Pooling == Mean {
		encoder.BindTextMeans(b, starts, lengths)
	} else {
		e.m.Config.bindPooling(b, starts, lengths)
	}
	width := e.m.Width()
	flat, err := e.session.Run(b, int64(len(rows)), width)
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(rows))
	for i := range vectors {
		vectors[i] = flat[int64(i)*width : int64(i+1)*width : int64(i+1)*width]
	}
	return vectors, nil
}

// Cosines gives the cosine of a query's vector with each passage's. All vectors have length one.
func Cosines(query []float32, passages [][]float32) ([]float32, error) {
	out := make([]float32, len(passages))
	for i, p := range passages {
		out[i] = dot(query, p)
	}
	return out, nil
}

func dot(a, b []float32) float32 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return float32(sum)
}

// Score scores samples with the parameters that a trainer has now, where it computes. The ranks share the work.
func (t *Task) Score(ctx context.Context, run *ortrain.Trainer, ranks *dist.Dealer, samples []mteb.Sample) (scores [][]float32, err error) {
	e, err := newEncoder(t.m, run, scoring.Options{Options: run.SessionOptions(), Ranks: ranks})
	if err == nil {
		defer func() { err = errors.Join(err, e.Close()) }()
	}
	if err := ranks.Agree(err); err != nil {
		return nil, err
	}
	ranker, err := e.BiEncoder(t.c.QueryMaxLen, t.c.PassageMaxLen)
	if err != nil {
		return nil, err
	}
	return mteb.ScoreAll(ctx, scoring.SampleScorer{Ranker: ranker}, samples)
}
