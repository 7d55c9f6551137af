package reranker

import (
	"context"
	"math"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// Scorer scores pairs with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Scorer struct {
	// MaxWindow scores a passage that is too long by the best of its windows, instead of its beginning.
	MaxWindow bool

	m       *Model
	session *scoring.Session
	least   int // tokens of a window, see leastWindow
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
	return &Scorer{m: m, session: s, least: leastWindow}, nil
}

// Close frees the session.
func (s *Scorer) Close() error { return s.session.Close() }

// block is how many pairs are tokenized before they are scored: enough to find pairs of like length, few enough to
// keep the tokens of a large task out of memory.
const block = 8192

// Score gives each pair's logit, of at most maxLen tokens. Progress is reported as the number of pairs done, if it is
// not nil.
func (s *Scorer) Score(ctx context.Context, pairs []Pair, maxLen int, progress func(done int)) ([]float32, error) {
	if err := s.m.checkLength("the maximal length", maxLen); err != nil {
		return nil, err
	}
	out := make([]float32, len(pairs))
	for start := 0; start < len(pairs); start += block {
		end := min(start+block, len(pairs))
		err := s.score(ctx, pairs[start:end], maxLen, out[start:end], func(done int) {
			if progress != nil {
				progress(start + done)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// score fills out with the logits of a block of pairs.
func (s *Scorer) score(ctx context.Context, pairs []Pair, maxLen int, out []float32, progress func(done int)) error {
	var rows []encoder.Row
	var of []int                    // the pair of each row
	left := make([]int, len(pairs)) // rows of each pair that are not scored yet
	for i, p := range pairs {
		windows := s.rows(p, maxLen)
		for range windows {
			of = append(of, i)
		}
		rows, left[i] = append(rows, windows...), len(windows)
		out[i] = float32(math.Inf(-1))
	}
	done := 0
	for _, batch := range scoring.ByLength(rows) {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := s.session.Run(s.m.pack(encoder.Pick(rows, batch), scoring.Groups), int64(len(batch)))
		if err != nil {
			return err
		}
		for k, row := range batch {
			i := of[row]
			if x := logits[k]; x > out[i] || x != x { // a NaN is passed on
				out[i] = x
			}
			if left[i]--; left[i] == 0 {
				done++
			}
		}
		progress(done)
	}
	return nil
}

// rows are a pair's, one unless its passage is to be scored in windows.
func (s *Scorer) rows(p Pair, maxLen int) []encoder.Row {
	if !s.MaxWindow {
		return []encoder.Row{s.m.Pair(p.Query, p.Passage, maxLen)}
	}
	return s.m.windows(p, maxLen, s.least)
}
