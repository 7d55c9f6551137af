package reranker

import (
	"context"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// Scorer scores pairs with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Scorer struct {
	m       *Model
	session *scoring.Session
	windows bool
	least   int // tokens of a window, see leastWindow
}

// NewScorer loads the model's weights into a session.
func NewScorer(m *Model, o scoring.Options) (*Scorer, error) { return newScorer(m, nil, o) }

// newScorer takes the weights from a trainer, or where it is nil from the folder.
func newScorer(m *Model, t *ortrain.Trainer, o scoring.Options) (*Scorer, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "reranker scoring", Encoder: m.Encoder, Params: m.Params(), Fill: m.Fill, Trainer: t,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			places := m.head.pool.input(g)
			return m.logits(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, m.head.pool.wanted(places)), places, nil)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Scorer{m: m, session: s, windows: o.MaxWindow, least: leastWindow}, nil
}

// Close frees the session.
func (s *Scorer) Close() error { return s.session.Close() }

// Score gives each pair's logit, of at most maxLen tokens. Progress is reported as the number of pairs done, if it is
// not nil.
func (s *Scorer) Score(ctx context.Context, pairs []scoring.Pair, maxLen int, progress func(done int)) ([]float32, error) {
	c, err := s.pairs(maxLen)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int) {}
	}
	return c.Pairs(ctx, pairs, progress)
}

// pairs scores pairs of at most maxLen tokens.
func (s *Scorer) pairs(maxLen int) (scoring.CrossEncoder, error) {
	if err := s.m.checkLength("the maximal length", maxLen); err != nil {
		return scoring.CrossEncoder{}, err
	}
	return scoring.CrossEncoder{
		Rows: func(p scoring.Pair) ([]encoder.Row, error) { return s.m.rows(p, maxLen, s.least, s.windows) },
		Forward: func(rows []encoder.Row) ([]float32, error) {
			return s.session.Run(s.m.pack(rows, scoring.Groups), int64(len(rows)))
		},
	}, nil
}
