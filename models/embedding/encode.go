package embedding

import (
	"context"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

const textRows = "texts"

// Encoder encodes texts with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Encoder struct {
	m       *Model
	session *scoring.Session
	windows bool
}

// NewEncoder loads the model's weights into a session.
func NewEncoder(m *Model, o scoring.Options) (*Encoder, error) { return newEncoder(m, nil, o) }

// newEncoder takes the weights from a trainer, or where it is nil from the folder.
func newEncoder(m *Model, t *ortrain.Trainer, o scoring.Options) (*Encoder, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "embedding scoring", Encoder: m.Encoder, Params: m.Params(), Fill: m.Fill, Trainer: t,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			pooling := m.Config.pooling(g)
			return m.Config.pool(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, m.Config.wanted(pooling)), pooling)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Encoder{m, s, o.MaxWindow}, nil
}

// Close frees the session.
func (e *Encoder) Close() error { return e.session.Close() }

// Encode gives one vector [width] per text, in order, of at most maxLength tokens each, as queries or as passages. Each
// batch's progress is reported as the number of texts done, if progress is not nil. Equal texts are encoded once.
func (e *Encoder) Encode(ctx context.Context, texts []string, queries bool, maxLength int, progress func(done int)) ([][]float32, error) {
	if err := e.m.checkLengths("the maximal length", maxLength); err != nil {
		return nil, err
	}
	row := func(text string) (encoder.Row, error) {
		return e.m.row(prompt.Text{Query: queries, Text: text}, maxLength)
	}
	return scoring.RunTexts(ctx, texts, row, e.forward, progress)
}

// forward encodes the rows of one batch.
func (e *Encoder) forward(rows []encoder.Row) ([][]float32, error) {
	b := ortrain.NewBatch()
	starts := e.m.Encoder.Pack(b, rows, scoring.Groups)
	e.m.Config.bindPooling(b, starts, encoder.Lengths(rows))
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
