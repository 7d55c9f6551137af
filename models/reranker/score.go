package reranker

import (
	"context"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// Scorer scores pairs with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Scorer struct {
	m       *Model
	session *scoring.Session
}

// Pair is a query and a passage.
type Pair struct{ Query, Passage string }

// NewScorer loads the model's weights into a session.
func NewScorer(m *Model, o runtime.Options) (*Scorer, error) { return newScorer(m, m.Fill, o) }

// newScorer takes the weights from fill.
func newScorer(m *Model, fill func(*flat.Layout, []float32) error, o runtime.Options) (*Scorer, error) {
	s, err := scoring.New(scoring.Graph{
		Name: "reranker scoring", Encoder: m.Encoder, Params: m.Params(), Fill: fill,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			return m.logits(g, w, l, m.Encoder.Build(g, w, l, encoder.Training{}, first(g)), nil)
		},
	}, o)
	if err != nil {
		return nil, err
	}
	return &Scorer{m, s}, nil
}

// Close frees the session.
func (s *Scorer) Close() error { return s.session.Close() }

// Score gives each pair's logit, of at most maxLen tokens. Progress is reported as the number of pairs done, if it is
// not nil.
func (s *Scorer) Score(ctx context.Context, pairs []Pair, maxLen int, progress func(done int)) ([]float32, error) {
	if err := s.m.checkLength("the maximal length", maxLen); err != nil {
		return nil, err
	}
	rows := make([]encoder.Row, len(pairs))
	for i, p := range pairs {
		rows[i] = s.m.Pair(p.Query, p.Passage, maxLen)
	}
	out := make([]float32, len(pairs))
	done := 0
	for _, batch := range scoring.ByLength(rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		picked, _ := scoring.Pick(rows, batch)
		logits, err := s.session.Run(s.m.pack(picked, scoring.Groups), int64(len(batch)))
		if err != nil {
			return nil, err
		}
		for k, i := range batch {
			out[i] = logits[k]
		}
		if done += len(batch); progress != nil {
			progress(done)
		}
	}
	return out, nil
}
