package reranker

import (
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// pooling is which of a pair's hidden states a head reads.
type pooling int

const (
	firstToken pooling = iota
	meanToken          // the mean over all tokens
	lastToken          // the last token, see head.last
)

// pairRows is the name of the dimension that is the number of pairs in a batch.
const pairRows = "pairs"

// poolingInputs has the name of the input that input adds.
var poolingInputs = map[pooling]string{firstToken: "pairs.first", meanToken: "pairs.mean", lastToken: "pairs.last"}

// input adds the graph's input that selects the tokens of a packed batch: the index of one token for each pair [pairs], or for the
// mean a matrix of weights [pairs, tokens].
func (p pooling) input(g *onnx.Graph) *onnx.Value {
	if p == meanToken {
		return g.Input(poolingInputs[p], onnx.Float32, onnx.NamedDim(pairRows), onnx.NamedDim(encoder.TokensDim))
	}
	return g.Input(poolingInputs[p], onnx.Int64, onnx.NamedDim(pairRows))
}

// wanted returns the tokens whose states apply reads, for encoder.Config.Build. Nil means all tokens.
func (p pooling) wanted(places *onnx.Value) *onnx.Value {
	if p == meanToken {
		return nil
	}
	return places
}

// apply returns one vector for each pair [pairs, hidden], given the states of the wanted tokens.
func (p pooling) apply(g *onnx.Graph, states, places *onnx.Value) *onnx.Value {
	if p == meanToken {
		return g.Gemm(places, states, nil, onnx.GemmAttrs{})
	}
	return states
}

// bind sets the input of a packed batch in which rows[i] begins at the token starts[i].
func (h head) bind(b *ortrain.Batch, rows []encoder.Row, starts []int64) {
	n, name := int64(len(rows)), poolingInputs[h.pool]
	b.Dims[pairRows] = n
	switch h.pool {
	case meanToken:
		tokens := b.Dims[encoder.TokensDim]
		b.Large = func(b *ortrain.Batch) {
			b.Float(name, encoder.MeanWeights(starts, encoder.Lengths(rows), tokens), n, tokens)
		}
	case lastToken:
		at := make([]int64, n)
		for i, r := range rows {
			at[i] = starts[i] + int64(h.last(r.IDs))
		}
		b.Int(name, at, n)
	default:
		b.Int(name, starts, n)
	}
}

// last returns the index of the token that is read of a pair: the last one that is not the padding token, as in transformers. It does
// not look at the attention mask. Therefore a text that ends with the padding token, as Qwen3's template ends it, is scored at the
// token before. If all are padding tokens it is the first. If the config names no padding token it is the last of all, and
// transformers scores only one pair at a time.
func (h head) last(ids []int64) int {
	for at := len(ids) - 1; at >= 0; at-- {
		if h.pad == nil || ids[at] != *h.pad {
			return at
		}
	}
	return 0
}

// padded returns one vector for each pair of a padded batch [batch, hidden], given the states of its tokens [batch·sequence, hidden].
func (h head) padded(g *onnx.Graph, batch *encoder.Padded, c encoder.Config, states *onnx.Value) *onnx.Value {
	mask := batch.Mask
	switch h.pool {
	case meanToken:
		return encoder.PaddedMean(g, batch.Unpack(states, c.HiddenSize), mask)
	case lastToken:
		if h.pad != nil { // the mask counts too, because a caller may pad with another token
			mask = g.Mul(mask, batch.IsNot(*h.pad))
		}
		return encoder.PaddedLast(g, states, mask)
	}
	return g.Gather(batch.Unpack(states, c.HiddenSize), g.IntScalar(0), 1)
}

// packToScore returns a packed batch of pairs for the graph that only scores.
func (m *Model) packToScore(rows []encoder.Row) *ortrain.Batch {
	if m.head.pool != meanToken {
		return m.pack(rows, scoring.Groups)
	}
	b := ortrain.NewBatch()
	encoder.BindTextMeans(b, m.Encoder.Pack(b, rows, scoring.Groups), encoder.Lengths(rows))
	return b
}

// pack returns a packed batch of pairs.
func (m *Model) pack(rows []encoder.Row, groups int) *ortrain.Batch {
	b := ortrain.NewBatch()
	m.head.bind(b, rows, m.Encoder.Pack(b, rows, groups))
	return b
}
