package colbert

import (
	"context"
	"errors"

	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// Scorer scores queries against passages on ONNX Runtime. It is used by one goroutine at a time.
type Scorer struct {
	// PaddingCompetes makes the vectors of padding, zeros, compete for the largest product, as RAG-Retrieval does: for
	// comparing with its numbers.
	PaddingCompetes bool

	m        *Model
	windows  bool
	encoding *scoring.Session
	maxSim   *scoring.Session
}

// Text is a tokenized text with the vectors of its tokens, [tokens, dim].
type Text struct {
	row     encoder.Row
	vectors []float32
}

// NewScorer loads the model's weights into a session.
func NewScorer(m *Model, o scoring.Options) (*Scorer, error) { return newScorer(m, nil, o) }

// newScorer takes the weights from a trainer, or where it is nil from the folder.
func newScorer(m *Model, t *ortrain.Trainer, o scoring.Options) (*Scorer, error) {
	s := &Scorer{m: m, windows: o.MaxWindow}
	var err error
	s.encoding, err = scoring.New(scoring.Graph{
		Name: "colbert encoding", Encoder: m.Encoder, Params: m.Params(), Fill: m.Fill, Trainer: t,
		Build: func(g *onnx.Graph, w encoder.Weights, l encoder.Layout) *onnx.Value {
			return m.project(g, w, m.Encoder.Build(g, w, l, encoder.Training{}, nil))
		},
	}, o)
	if err != nil {
		return nil, err
	}
	s.maxSim, err = scoring.NewPlain("maxsim", func(g *onnx.Graph) *onnx.Value {
		vectors := func(name string) *onnx.Value {
			return g.Input(name, onnx.Float32, onnx.N(name), onnx.D(m.Dim))
		}
		return maxSim(g, vectors("query_vectors"), vectors("passage_vectors"))
	}, o.Options)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close frees the sessions.
func (s *Scorer) Close() error { return errors.Join(s.encoding.Close(), s.maxSim.Close()) }

// Queries encodes queries of at most maxLen tokens each; equal ones once. Progress is the number of texts done, if it is
// not nil.
func (s *Scorer) Queries(ctx context.Context, texts []string, maxLen int, progress func(done int)) ([]Text, error) {
	if err := s.m.checkLengths("the maximal length of queries", maxLen); err != nil {
		return nil, err
	}
	return s.encode(ctx, texts, progress, func(text string) (encoder.Row, error) {
		return s.m.row(prompt.Text{Query: true, Text: text}, maxLen)
	})
}

// Passages is Queries for passages.
func (s *Scorer) Passages(ctx context.Context, texts []string, maxLen int, progress func(done int)) ([]Text, error) {
	if err := s.m.checkLengths("the maximal length of passages", maxLen); err != nil {
		return nil, err
	}
	return s.encode(ctx, texts, progress, func(text string) (encoder.Row, error) {
		return s.m.row(prompt.Text{Text: text}, maxLen)
	})
}

func (s *Scorer) encode(ctx context.Context, texts []string, progress func(done int), row func(string) (encoder.Row, error)) ([]Text, error) {
	return scoring.RunTexts(ctx, texts, row, s.forward, progress)
}

// forward encodes the rows of one batch.
func (s *Scorer) forward(rows []encoder.Row) ([]Text, error) {
	b := ortrain.NewBatch()
	starts := s.m.Encoder.Pack(b, rows, scoring.Groups)
	vectors, err := s.encoding.Run(b, b.Dims[encoder.TokensDim], s.m.Dim)
	if err != nil {
		return nil, err
	}
	out := make([]Text, len(rows))
	for i, r := range rows {
		from, to := starts[i]*s.m.Dim, (starts[i]+int64(len(r.IDs)))*s.m.Dim
		out[i] = Text{r, vectors[from:to:to]}
	}
	return out, nil
}

// passagesAtOnce bounds the vectors that one run of MaxSim reads.
const passagesAtOnce = 128

// Score gives a query's score against each passage. maxLen is the passages' maximal length, for PaddingCompetes.
func (s *Scorer) Score(query Text, passages []Text, maxLen int) ([]float32, error) {
	var out []float32
	for len(passages) > 0 {
		n := min(passagesAtOnce, len(passages))
		scores, err := s.scoreSome(query, passages[:n], maxLen)
		if err != nil {
			return nil, err
		}
		out, passages = append(out, scores...), passages[n:]
	}
	return out, nil
}

func (s *Scorer) scoreSome(query Text, passages []Text, maxLen int) ([]float32, error) {
	b := ortrain.NewBatch()
	b.Float("query_vectors", query.vectors, int64(len(query.row.IDs)), s.m.Dim)
	s.m.bindQueries(b, []encoder.Row{query.row}, []int64{0})
	var rows []encoder.Row
	var starts []int64
	var vectors []float32
	for _, p := range passages {
		starts, rows = append(starts, int64(len(vectors))/s.m.Dim), append(rows, p.row)
		vectors = append(vectors, p.vectors...)
	}
	if s.PaddingCompetes { // a vector of zeros behind all others
		zero := int64(len(vectors)) / s.m.Dim
		vectors = append(vectors, make([]float32, s.m.Dim)...)
		s.m.bindPassages(b, rows, starts)
		s.letZeroCompete(b, rows, zero, maxLen)
	} else {
		s.m.bindPassages(b, rows, starts)
	}
	b.Float("passage_vectors", vectors, int64(len(vectors))/s.m.Dim, s.m.Dim)
	return s.maxSim.Run(b, 1, int64(len(passages)))
}

// letZeroCompete adds a place for a vector of zeros to every passage that would have been padded.
func (s *Scorer) letZeroCompete(b *ortrain.Batch, rows []encoder.Row, zero int64, maxLen int) {
	tokens, bias := b.Ints[passageTokens], b.Floats[passageBias]
	n, length := len(rows), int(tokens.Dims[1])
	at, offset := make([]int64, 0, n*(length+1)), make([]float32, 0, n*(length+1))
	for i, r := range rows {
		at = append(append(at, tokens.Data[i*length:(i+1)*length]...), zero)
		offset = append(offset, bias.Data[i*length:(i+1)*length]...)
		if len(r.IDs) < maxLen {
			offset = append(offset, 0)
		} else {
			offset = append(offset, contrast.Masked)
		}
	}
	b.Int(passageTokens, at, int64(n), int64(length+1))
	b.Float(passageBias, offset, int64(n), int64(length+1))
}
