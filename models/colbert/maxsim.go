package colbert

import (
	"slices"

	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of MaxSim.
const (
	queryTokens   = "queries.tokens"  // the indices of all queries' counted tokens, end to end
	queryShares   = "queries.shares"  // the weight of each token in its query's score, [queries, tokens]
	passageTokens = "passages.tokens" // the indices of each passage's counted tokens, padded
	passageBias   = "passages.bias"   // 0 for tokens, a large negative number for padding
	countedTokens = "query_tokens"
	passageLength = "passage_length"
)

// project maps hidden states [tokens, hidden] to each token's vector of length one, [tokens, dim].
func (m *Model) project(g *onnx.Graph, w encoder.Weights, hidden *onnx.Value) *onnx.Value {
	x := hidden
	for _, layer := range m.layers {
		x = layer.apply(g, w, x)
	}
	defer g.Scope("normalize")()
	length := g.Sqrt(g.ReduceSum(g.Mul(x, x), true, -1))
	return g.Div(x, g.Clip(length, g.Scalar(x, 1e-12), nil))
}

// maxSim returns the score of every query with every passage, [queries, passages], see maxSimPadded. q and p are vectors
// [tokens, dim], from which inputs select the tokens that count.
func maxSim(g *onnx.Graph, q, p *onnx.Value) *onnx.Value {
	defer g.Scope("maxsim")()
	at := g.Input(passageTokens, onnx.Int64, onnx.NamedDim(contrast.PassagesDim), onnx.NamedDim(passageLength))
	bias := padding(g)
	q = g.Gather(q, g.Input(queryTokens, onnx.Int64, onnx.NamedDim(countedTokens)), 0)
	p = g.Gather(p, g.ReshapeTo(at, -1), 0)
	return maxSimPadded(g, q, p, bias)
}

// padding adds the input that tells a passage's tokens from padding, [passages, length].
func padding(g *onnx.Graph) *onnx.Value {
	return g.Input(passageBias, onnx.Float32, onnx.NamedDim(contrast.PassagesDim), onnx.NamedDim(passageLength))
}

// maxSimPadded returns the score of every query with every passage, [queries, passages]. For each token of the query it takes the
// largest product with a token of the passage; the score is their sum, or with Rules.Mean their mean. q has the vectors of all
// queries' tokens, [tokens, dim], p those of the passages' tokens with padding, [passages · length, dim]. Source: Khattab and
// Zaharia 2020. Padding never counts. In RAG-Retrieval it competes as a vector of zeros.
func maxSimPadded(g *onnx.Graph, q, p, bias *onnx.Value) *onnx.Value {
	tokens := q.Shape[0]
	s := g.Gemm(q, p, nil, onnx.GemmAttrs{TransB: true})
	s = g.Reshape(s, g.Concat(0, g.IntVector(-1), g.Shape(bias))) // [query tokens, passages, length]
	s = g.AssumeShape(s, append(onnx.Shape{tokens}, bias.Shape...))
	best := g.ReduceMax(g.Add(s, bias), false, 2)
	return g.Gemm(g.Input(queryShares, onnx.Float32, onnx.NamedDim(contrast.QueriesDim), tokens), best, nil, onnx.GemmAttrs{})
}

// bindQueries adds the queries' tokens that count: of each query, their places among the vectors.
func (m *Model) bindQueries(b *ortrain.Batch, counted [][]int64) {
	tokens := slices.Concat(counted...)
	b.Int(queryTokens, tokens, int64(len(tokens)))
	m.bindShares(b, countEach(counted))
}

// bindShares sets the weight of each token in its query's score. counts has the number of tokens of each query.
func (m *Model) bindShares(b *ortrain.Batch, counts []int) {
	n := 0
	for _, c := range counts {
		n += c
	}
	shares, at := b.Zeros(queryShares, len(counts)*n), 0
	for i, c := range counts {
		share := float32(1)
		if m.Rules.Mean {
			share = 1 / float32(c)
		}
		for range c {
			shares[i*n+at] = share
			at++
		}
	}
	b.Float(queryShares, shares, int64(len(counts)), int64(n))
}

// bindPassages adds the passages' tokens that count: of each passage, their places among the vectors.
func bindPassages(b *ortrain.Batch, counted [][]int64) {
	longest := bindPadding(b, countEach(counted))
	tokens := make([]int64, len(counted)*longest)
	for i, places := range counted {
		copy(tokens[i*longest:], places)
	}
	b.Int(passageTokens, tokens, int64(len(counted)), int64(longest))
}

// bindPadding tells the tokens of passages from padding to the longest of them, which it returns.
func bindPadding(b *ortrain.Batch, lengths []int) (longest int) {
	longest = slices.Max(append([]int{1}, lengths...))
	bias := b.Zeros(passageBias, len(lengths)*longest)
	for i, n := range lengths {
		for j := n; j < longest; j++ {
			bias[i*longest+j] = contrast.MaskBias
		}
	}
	b.Float(passageBias, bias, int64(len(lengths)), int64(longest))
	return longest
}

// countedPlaces gives for each row the places of its counted tokens among all vectors, where row i begins at starts[i].
func (m *Model) countedPlaces(rows []encoder.Row, starts []int64, passages bool) [][]int64 {
	out := make([][]int64, len(rows))
	for i, r := range rows {
		for _, k := range m.counted(r, passages) {
			out[i] = append(out[i], starts[i]+int64(k))
		}
	}
	return out
}
