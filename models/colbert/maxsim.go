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

// maxSim returns the score of every query with every passage, [queries, passages]. For each token of the query it takes the largest
// product with a token of the passage; the score is their sum, or with Rules.Mean their mean. q and p are vectors [tokens, dim],
// from which the inputs select the tokens that count. Source: Khattab and Zaharia 2020. Padding never counts. In RAG-Retrieval it
// competes as a vector of zeros.
func maxSim(g *onnx.Graph, q, p *onnx.Value) *onnx.Value {
	defer g.Scope("maxsim")()
	tokens := onnx.NamedDim(countedTokens)
	shape := []onnx.Dim{onnx.NamedDim(contrast.PassagesDim), onnx.NamedDim(passageLength)}
	at, bias := g.Input(passageTokens, onnx.Int64, shape...), g.Input(passageBias, onnx.Float32, shape...)
	q = g.Gather(q, g.Input(queryTokens, onnx.Int64, tokens), 0)
	p = g.Gather(p, g.ReshapeTo(at, -1), 0) // [passages · length, dim]
	s := g.Gemm(q, p, nil, onnx.GemmAttrs{TransB: true})
	s = g.Reshape(s, g.Concat(0, g.IntVector(-1), g.Shape(at))) // [query tokens, passages, length]
	s = g.AssumeShape(s, append(onnx.Shape{tokens}, shape...))
	best := g.ReduceMax(g.Add(s, bias), false, 2)
	return g.Gemm(g.Input(queryShares, onnx.Float32, onnx.NamedDim(contrast.QueriesDim), tokens), best, nil, onnx.GemmAttrs{})
}

// bindQueries adds the queries' tokens that count: of each query, their places among the vectors.
func (m *Model) bindQueries(b *ortrain.Batch, counted [][]int64) {
	tokens := slices.Concat(counted...)
	n := len(tokens)
	shares := make([]float32, len(counted)*n)
	at := 0
	for i, places := range counted {
		share := float32(1)
		if m.Rules.Mean {
			share = 1 / float32(len(places))
		}
		for range places {
			shares[i*n+at] = share
			at++
		}
	}
	b.Int(queryTokens, tokens, int64(n))
	b.Float(queryShares, shares, int64(len(counted)), int64(n))
}

// bindPassages adds the passages' tokens that count: of each passage, their places among the vectors.
func bindPassages(b *ortrain.Batch, counted [][]int64) {
	longest := 1
	for _, places := range counted {
		longest = max(longest, len(places))
	}
	tokens, bias := make([]int64, len(counted)*longest), make([]float32, len(counted)*longest)
	for i, places := range counted {
		n := copy(tokens[i*longest:], places)
		for j := n; j < longest; j++ {
			bias[i*longest+j] = contrast.MaskBias
		}
	}
	b.Int(passageTokens, tokens, int64(len(counted)), int64(longest))
	b.Float(passageBias, bias, int64(len(counted)), int64(longest))
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
