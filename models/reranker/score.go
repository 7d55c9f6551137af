package reranker

import (
	"context"
	"errors"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
)

// Scorer scores pairs with a model's weights on ONNX Runtime. Several goroutines may use it at once.
type Scorer struct {
	m         *Model
	session   *scoring.Session
	o         scoring.Options
	minWindow int // tokens of a window, see minWindow
}

// NewScorer loads the model's weights into a session.
func NewScorer(m *Model, o scoring.Options) (*Scorer, error) { return newScorer(m, nil, o) }

// newScorer loads the weights of a trainer, or where it is nil those of the folder.
func newScorer(m *Model, t *ortrain.Trainer, o scoring.Options) (*Scorer, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "reranker scoring", Encoder: m.Encoder, Params: m.Params(), Fill: m.Fill, Trainer: t,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			if m.head.pool == meanToken {
				states := m.head.beforePooling(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, nil))
				return g.Squeeze(m.head.apply(g, w, m.Encoder, encoder.TextMeans(g, pairRows, states), nil), 1)
			}
			places := m.head.pool.input(g)
			return m.logits(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, m.head.pool.wanted(places)), places, nil)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Scorer{m: m, session: s, o: o, minWindow: minWindow}, nil
}

// Close frees the session.
func (s *Scorer) Close() error { return s.session.Close() }

// CrossEncoder scores pairs of at most maxLen tokens by their logits.
func (s *Scorer) CrossEncoder(maxLen int) (scoring.CrossEncoder, error) {
	return scoring.CrossEncoder{
		Rows: func(p scoring.Pair, long scoring.LongText) ([]encoder.Row, error) {
			return s.m.rows(p, maxLen, s.minWindow, long)
		},
		Windows: s.o.MaxWindow,
		Forward: func(rows []encoder.Row) ([]float32, error) {
			return s.session.Run(s.m.packToScore(rows), int64(len(rows)))
		},
		BatchTokens: s.o.BatchTokens, Ranks: s.o.Ranks,
	}, s.m.checkLength("the maximal length", maxLen)
}

// Score scores samples with the parameters that a trainer has now, where it computes. The ranks share the work.
func (t *Task) Score(ctx context.Context, run *ortrain.Trainer, ranks *dist.Dealer, samples []mteb.Sample) (scores [][]float32, err error) {
	s, err := newScorer(t.m, run, scoring.Options{Options: run.SessionOptions(), Ranks: ranks})
	if err == nil {
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	if err := ranks.Agree(err); err != nil {
		return nil, err
	}
	ranker, err := s.CrossEncoder(t.c.MaxLen)
	if err != nil {
		return nil, err
	}
	return mteb.ScoreAll(ctx, scoring.SampleScorer{Ranker: ranker}, samples)
}
