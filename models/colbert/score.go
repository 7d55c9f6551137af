package colbert

import (
	"context"
	"errors"
	"slices"

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
		Rows: func(x prompt.Text, long scoring.LongText) ([]encoder.Row, error) {
			if x.Query {
				return s.m.rows(x, queryMaxLen, long)
			}
			return s.m.rows(x, passageMaxLen, long)
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

// How many tokens of queries, and of passages with padding, one run of MaxSim compares. The products of all of them are in memory.
const (
	queryTokensAtOnce   = 512
	passageTokensAtOnce = 8192
)

// MaxSim gives a query's score with each passage.
func (s *Scorer) MaxSim(query Vectors, passages []Vectors) ([]float32, error) {
	scores, err := s.MaxSims([]Vectors{query}, passages)
	if err != nil {
		return nil, err
	}
	return scores[0], nil
}

// MaxSims gives each query's score with each passage, [queries][passages].
func (s *Scorer) MaxSims(queries, passages []Vectors) ([][]float32, error) {
	out := make([][]float32, len(queries))
	for i := range out {
		out[i] = make([]float32, len(passages))
	}
	order := make([]int, len(passages)) // passages of like length together, so that there is little padding
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(passages[b].IDs) - len(passages[a].IDs) })
	for start := 0; start < len(order); {
		longest := max(1, len(passages[order[start]].IDs)+1) // and a vector of zeros where padding competes
		block := order[start:min(start+max(1, passageTokensAtOnce/longest), len(order))]
		some := make([]Vectors, len(block))
		for i, n := range block {
			some[i] = passages[n]
		}
		for from := 0; from < len(queries); {
			to, tokens := from, 0
			for to < len(queries) && (to == from || tokens+len(queries[to].IDs) <= queryTokensAtOnce) {
				tokens += len(queries[to].IDs)
				to++
			}
			scores, err := s.maxSimsOnce(queries[from:to], some)
			if err != nil {
				return nil, err
			}
			for i, x := range scores {
				out[from+i/len(block)][block[i%len(block)]] = x
			}
			from = to
		}
		start += len(block)
	}
	return out, nil
}

// maxSimsOnce gives the scores of one run, [queries · passages].
func (s *Scorer) maxSimsOnce(queries, passages []Vectors) ([]float32, error) {
	b := ortrain.NewBatch()
	vectors, counted := s.joined(queries)
	b.Float("query_vectors", vectors, int64(len(vectors))/s.m.Dim, s.m.Dim)
	s.m.bindQueries(b, counted)
	vectors, counted = s.joined(passages)
	bindPassages(b, counted)
	if s.PaddingCompetes { // a vector of zeros behind all others
		zero := int64(len(vectors)) / s.m.Dim
		vectors = append(vectors, make([]float32, s.m.Dim)...)
		letZeroCompete(b, passages, zero)
	}
	b.Float("passage_vectors", vectors, int64(len(vectors))/s.m.Dim, s.m.Dim)
	return s.maxSim.Run(b, int64(len(queries)), int64(len(passages)))
}

// joined gives the vectors of all texts end to end, and the places of each text's own among them.
func (s *Scorer) joined(texts []Vectors) (vectors []float32, counted [][]int64) {
	n := 0
	for _, t := range texts {
		n += len(t.Values)
	}
	vectors, counted = make([]float32, 0, n+int(s.m.Dim)), make([][]int64, len(texts)) // with room for a vector of zeros
	for i, t := range texts {
		counted[i] = places(int64(len(vectors))/s.m.Dim, len(t.IDs))
		vectors = append(vectors, t.Values...)
	}
	return vectors, counted
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
