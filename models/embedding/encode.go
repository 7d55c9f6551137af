package embedding

import (
	"context"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

const textRows = "texts"

// Encoder encodes texts with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Encoder struct {
	m       *Model
	session *scoring.Session
}

// NewEncoder loads the model's weights into a session.
func NewEncoder(m *Model, o runtime.Options) (*Encoder, error) { return newEncoder(m, m.Fill, o) }

// newEncoder takes the weights from fill.
func newEncoder(m *Model, fill func(*flat.Layout, []float32) error, o runtime.Options) (*Encoder, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "embedding scoring", Encoder: m.Encoder, Params: m.Params(), Fill: fill,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			pooling := m.Config.pooling(g)
			return m.Config.pool(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, m.Config.wanted(pooling)), pooling)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Encoder{m, s}, nil
}

// Close frees the session.
func (e *Encoder) Close() error { return e.session.Close() }

// Encode gives one vector [width] per text, in order, of at most maxLength tokens each. Each batch's progress is
// reported as the number of texts done, if progress is not nil. Equal texts are encoded once.
func (e *Encoder) Encode(ctx context.Context, texts []string, maxLength int, progress func(done int)) ([][]float32, error) {
	if err := e.m.checkLengths("the maximal length", maxLength); err != nil {
		return nil, err
	}
	distinct, place, copies := scoring.Distinct(texts)
	rows := make([]encoder.Row, len(distinct))
	for i, t := range distinct {
		rows[i].IDs = e.m.Tokenizer.Encode(t, maxLength)
	}
	vectors := make([][]float32, len(rows))
	done := 0
	for _, batch := range scoring.ByLength(rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := e.run(rows, batch, vectors); err != nil {
			return nil, err
		}
		for _, i := range batch {
			done += copies[i]
		}
		if progress != nil {
			progress(done)
		}
	}
	out := make([][]float32, len(texts))
	for i, j := range place {
		out[i] = vectors[j]
	}
	return out, nil
}

// run encodes the rows of one batch into vectors.
func (e *Encoder) run(rows []encoder.Row, batch []int, vectors [][]float32) error {
	picked := encoder.Pick(rows, batch)
	b := ortrain.NewBatch()
	starts := e.m.Encoder.Pack(b, picked, scoring.Groups)
	e.m.Config.bindPooling(b, starts, encoder.Lengths(picked))
	width := e.m.Width()
	flat, err := e.session.Run(b, int64(len(batch)), width)
	if err != nil {
		return err
	}
	for k, i := range batch {
		vectors[i] = flat[int64(k)*width : int64(k+1)*width : int64(k+1)*width]
	}
	return nil
}
