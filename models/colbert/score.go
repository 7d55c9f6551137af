package colbert

import (
	"context"
	"errors"

	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
)

// Scorer encodes texts and scores queries against passages on ONNX Runtime. Several goroutines may use it at once.
type Scorer struct {
	// PaddingCompetes makes the vectors of padding, zeros, compete for the largest product, as RAG-Retrieval does: for
	// comparing with its numbers.
	PaddingCompetes bool

	m        *Model
	o        scoring.Options
	encoding *scoring.Session
	maxSim   *scoring.Session
}

// Encoding is a text's tokens with their vectors, those that do not count in MaxSim included.
type Encoding struct {
	row     encoder.Row
	vectors []float32 // [tokens, dim]
}

// Vectors are the vectors of a text's tokens that count in MaxSim.
type Vectors struct {
	IDs    []int64   // of the tokens
	Values []float32 // [len(IDs), dim]
	// Padded says that the text has fewer tokens than its maximal length. Such a passage is padded where padding competes.
	Padded bool
}

// NewScorer loads the model's weights into a session.
func NewScorer(m *Model, o scoring.Options) (*Scorer, error) { return newScorer(m, nil, o) }

// newScorer loads the weights of a trainer, or where it is nil those of the folder.
func newScorer(m *Model, t *ortrain.Trainer, o scoring.Options) (*Scorer, error) {
	s := &Scorer{m: m, o: o}
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
	s.maxSim, err = scoring.NewWithoutWeights("maxsim", func(g *onnx.Graph) *onnx.Value {
		vectors := func(name string) *onnx.Value {
			return g.Input(name, onnx.Float32, onnx.NamedDim(name), onnx.FixedDim(m.Dim))
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

// BiEncoder encodes queries and passages of at most so many tokens, and ranks by MaxSim.
func (s *Scorer) BiEncoder(queryMaxLen, passageMaxLen int) (scoring.BiEncoder[Encoding], error) {
	err := s.m.checkLengths("the maximal length of queries", queryMaxLen)
	if err == nil {
		err = s.m.checkLengths("the maximal length of passages", passageMaxLen)
	}
	return scoring.BiEncoder[Encoding]{
		Rows: func(x prompt.Text, windows bool) ([]encoder.Row, error) {
			if x.Query {
				return s.m.rows(x, queryMaxLen, windows)
			}
			return s.m.rows(x, passageMaxLen, windows)
		},
		Forward: s.forward, Windows: s.o.MaxWindow, Block: scoring.TokenVectorBlock, BatchTokens: s.o.BatchTokens,
		Ranks: s.o.Ranks, Carrier: scoring.Carrier[Encoding]{
			Numbers: func(x Encoding) []float32 { return x.vectors },
			Value:   func(row encoder.Row, vectors []float32) Encoding { return Encoding{row, vectors} },
		},
		Similarity: func(query Encoding, passages []Encoding) ([]float32, error) {
			counted := make([]Vectors, len(passages))
			for i, p := range passages {
				counted[i] = s.Counted(p, false, passageMaxLen)
			}
			return s.MaxSim(s.Counted(query, true, queryMaxLen), counted)
		},
	}, err
}

// forward encodes the rows of one batch.
func (s *Scorer) forward(rows []encoder.Row) ([]Encoding, error) {
	b := ortrain.NewBatch()
	starts := s.m.Encoder.Pack(b, rows, scoring.Groups)
	vectors, err := s.encoding.Run(b, b.Dims[encoder.TokensDim], s.m.Dim)
	if err != nil {
		return nil, err
	}
	out := make([]Encoding, len(rows))
	for i, r := range rows {
		from, to := starts[i]*s.m.Dim, (starts[i]+int64(len(r.IDs)))*s.m.Dim
		out[i] = Encoding{r, vectors[from:to:to]}
	}
	return out, nil
}

// Counted gives the vectors of the tokens that count in MaxSim, of a query or a passage of at most maxLen tokens.
func (s *Scorer) Counted(e Encoding, query bool, maxLen int) Vectors {
	dim := int(s.m.Dim)
	at := s.m.counted(e.row, !query)
	out := Vectors{IDs: make([]int64, len(at)), Values: make([]float32, 0, len(at)*dim), Padded: len(e.row.IDs) < maxLen}
	for i, k := range at {
		out.IDs[i] = e.row.IDs[k]
		out.Values = append(out.Values, e.vectors[k*dim:(k+1)*dim]...)
	}
	return out
}

// passagesAtOnce bounds the vectors that one run of MaxSim reads.
const passagesAtOnce = 128

// MaxSim gives a query's score with each passage.
func (s *Scorer) MaxSim(query Vectors, passages []Vectors) ([]float32, error) {
	var out []float32
	for len(passages) > 0 {
		n := min(passagesAtOnce, len(passages))
		scores, err := s.maxSimOnce(query, passages[:n])
		if err != nil {
			return nil, err
		}
		out, passages = append(out, scores...), passages[n:]
	}
	return out, nil
}

func (s *Scorer) maxSimOnce(query Vectors, passages []Vectors) ([]float32, error) {
	b := ortrain.NewBatch()
	b.Float("query_vectors", query.Values, int64(len(query.IDs)), s.m.Dim)
	s.m.bindQueries(b, [][]int64{places(0, len(query.IDs))})
	counted := make([][]int64, len(passages))
	var vectors []float32
	for i, p := range passages {
		counted[i] = places(int64(len(vectors))/s.m.Dim, len(p.IDs))
		vectors = append(vectors, p.Values...)
	}
	bindPassages(b, counted)
	if s.PaddingCompetes { // a vector of zeros behind all others
		zero := int64(len(vectors)) / s.m.Dim
		vectors = append(vectors, make([]float32, s.m.Dim)...)
		letZeroCompete(b, passages, zero)
	}
	b.Float("passage_vectors", vectors, int64(len(vectors))/s.m.Dim, s.m.Dim)
	return s.maxSim.Run(b, 1, int64(len(passages)))
}

// places are n numbers from first on.
func places(first int64, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = first + int64(i)
	}
	return out
}

// letZeroCompete adds a place for a vector of zeros to every passage that would have been padded.
func letZeroCompete(b *ortrain.Batch, passages []Vectors, zero int64) {
	tokens, bias := b.Ints[passageTokens], b.Floats[passageBias]
	n, length := len(passages), int(tokens.Dims[1])
	at, offset := make([]int64, 0, n*(length+1)), make([]float32, 0, n*(length+1))
	for i, p := range passages {
		at = append(append(at, tokens.Data[i*length:(i+1)*length]...), zero)
		offset = append(offset, bias.Data[i*length:(i+1)*length]...)
		if p.Padded {
			offset = append(offset, 0)
		} else {
			offset = append(offset, contrast.MaskBias)
		}
	}
	b.Int(passageTokens, at, int64(n), int64(length+1))
	b.Float(passageBias, offset, int64(n), int64(length+1))
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
	ranker, err := s.BiEncoder(t.c.QueryMaxLen, t.c.PassageMaxLen)
	if err != nil {
		return nil, err
	}
	return mteb.ScoreAll(ctx, scoring.SampleScorer{Ranker: ranker}, samples)
}
