package reranker

import (
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// pooling says which of a pair's hidden states a head reads.
type pooling int

const (
	firstToken pooling = iota
	meanToken          // the mean over all tokens
	lastToken          // the last token, see head.last
)

// pairRows is the dimension that counts a batch's pairs. The input that tells the pooled tokens is named by the pooling.
const pairRows = "pairs"

var poolingInputs = map[pooling]string{firstToken: "pairs.first", meanToken: "pairs.mean", lastToken: "pairs.last"}

// input is the graph's input that tells which tokens of a packed batch are read: one of each pair, [pairs], or for the mean
// a matrix [pairs, tokens].
func (p pooling) input(g *onnx.Graph) *onnx.Value {
	if p == meanToken {
		return g.Input(poolingInputs[p], onnx.Float32, onnx.NamedDim(pairRows), onnx.NamedDim(encoder.TokensDim))
	}
	return g.Input(poolingInputs[p], onnx.Int64, onnx.NamedDim(pairRows))
}

// wanted are the tokens whose states apply reads, as encoder.Config.Build wants them.
func (p pooling) wanted(places *onnx.Value) *onnx.Value {
	if p == meanToken {
		return nil
	}
	return places
}

// apply makes one vector of each pair, [pairs, hidden], of the wanted tokens' states.
func (p pooling) apply(g *onnx.Graph, states, places *onnx.Value) *onnx.Value {
	if p == meanToken {
		return g.Gemm(places, states, nil, onnx.GemmAttrs{})
	}
	return states
}

// bind adds to a packed batch what input reads: rows[i] lies at starts[i].
func (h head) bind(b *ortrain.Batch, rows []encoder.Row, starts []int64) {
	n, name := int64(len(rows)), poolingInputs[h.pool]
	b.Dims[pairRows] = n
	switch h.pool {
	case meanToken:
		tokens := b.Dims[encoder.TokensDim]
		b.Float(name, encoder.MeanWeights(starts, encoder.Lengths(rows), tokens), n, tokens)
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

// last is the token that is read of a pair: the rightmost one whose id is not that of the padding token. transformers does
// not look at the attention mask, so that a text that ends with the padding token, as Qwen3's template ends it, is scored
// at the token before. Of a pair of padding tokens only, it is the first. Where the config names no padding token it is
// the last one (transformers then takes one pair at a time).
func (h head) last(ids []int64) int {
	for at := len(ids) - 1; at >= 0; at-- {
		if h.pad == nil || ids[at] != *h.pad {
			return at
		}
	}
	return 0
}

// padded makes one vector of each pair of a padded batch, [batch, hidden], of its tokens' states [batch·sequence, hidden].
func (h head) padded(g *onnx.Graph, batch *encoder.Padded, c encoder.Config, states *onnx.Value) *onnx.Value {
	mask := batch.Mask
	switch h.pool {
	case meanToken:
		return encoder.PaddedMean(g, batch.Unpack(states, c.HiddenSize), mask)
	case lastToken:
		if h.pad != nil { // the mask too, for those who pad with another token
			mask = g.Mul(mask, batch.IsNot(*h.pad))
		}
		return encoder.PaddedLast(g, states, mask)
	}
	return g.Gather(batch.Unpack(states, c.HiddenSize), g.IntScalar(0), 1)
}

// pack lays pairs out.
func (m *Model) pack(rows []encoder.Row, groups int) *ortrain.Batch {
	b := ortrain.NewBatch()
	m.head.bind(b, rows, m.Encoder.Pack(b, rows, groups))
	return b
}
