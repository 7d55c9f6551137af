package colbert

import (
	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of MaxSim.
const (
	queryTokens   = "queries.tokens"  // the counted tokens of all queries, end to end
	queryShares   = "queries.shares"  // what each counts in its query's score, [queries, tokens]
	passageTokens = "passages.tokens" // the counted tokens of each passage, padded
	passageBias   = "passages.bias"   // very negative at padding
	countedTokens = "query_tokens"
	passageLength = "passage_length"
)

// project gives each token's unit vector: [tokens, dim] of [tokens, hidden].
func (m *Model) project(g *onnx.Graph, w encoder.Weights, hidden *onnx.Value) *onnx.Value {
	x := hidden
	for _, layer := range m.layers {
		x = layer.apply(g, w, x)
	}
	defer g.Scope("normalize")()
	length := g.Sqrt(g.ReduceSum(g.Mul(x, x), true, -1))
	return g.Div(x, g.Clip(length, g.Scalar(x, 1e-12), nil))
}

// maxSim gives the score of every query against every passage, [queries, passages]: the sum, or with Rules.Mean the
// mean, over the query's tokens of the largest product with one of the passage's tokens. q and p are vectors [tokens,
// dim] that the inputs pick from. Source: Khattab and Zaharia 2020. Padding takes no part, which differs from
// RAG-Retrieval, where it competes as a vector of zeros.
func maxSim(g *onnx.Graph, q, p *onnx.Value) *onnx.Value {
	defer g.Scope("maxsim")()
	tokens := onnx.N(countedTokens)
	shape := []onnx.Dim{onnx.N(contrast.PassageRows), onnx.N(passageLength)}
	at, bias := g.Input(passageTokens, onnx.Int64, shape...), g.Input(passageBias, onnx.Float32, shape...)
	q = g.Gather(q, g.Input(queryTokens, onnx.Int64, tokens), 0)
	p = g.Gather(p, g.ReshapeTo(at, -1), 0) // [passages · length, dim]
	s := g.Gemm(q, p, nil, onnx.GemmAttrs{TransB: true})
	s = g.Reshape(s, g.Concat(0, g.IntVector(-1), g.Shape(at))) // [query tokens, passages, length]
	s = g.Assume(s, append(onnx.Shape{tokens}, shape...))
	best := g.ReduceMax(g.Add(s, bias), false, 2)
	return g.Gemm(g.Input(queryShares, onnx.Float32, onnx.N(contrast.QueryRows), tokens), best, nil, onnx.GemmAttrs{})
}

// bindQueries adds the queries' counted tokens; starts are the rows' first tokens among the vectors.
func (m *Model) bindQueries(b *ortrain.Batch, rows []encoder.Row, starts []int64) {
	var tokens []int64
	counts := make([]int, len(rows))
	for i, r := range rows {
		for _, k := range m.counted(r, false) {
			tokens = append(tokens, starts[i]+int64(k))
			counts[i]++
		}
	}
	n := len(tokens)
	shares := make([]float32, len(rows)*n)
	at := 0
	for i, count := range counts {
		share := float32(1)
		if m.Rules.Mean {
			share = 1 / float32(count)
		}
		for range count {
			shares[i*n+at] = share
			at++
		}
	}
	b.Int(queryTokens, tokens, int64(n))
	b.Float(queryShares, shares, int64(len(rows)), int64(n))
}

// bindPassages adds the passages' counted tokens.
func (m *Model) bindPassages(b *ortrain.Batch, rows []encoder.Row, starts []int64) {
	counted := make([][]int, len(rows))
	longest := 1
	for i, r := range rows {
		counted[i] = m.counted(r, true)
		longest = max(longest, len(counted[i]))
	}
	tokens, bias := make([]int64, len(rows)*longest), make([]float32, len(rows)*longest)
	for i := range rows {
		for j := range longest {
			at := i*longest + j
			if j >= len(counted[i]) {
				bias[at] = contrast.Masked
				continue
			}
			tokens[at] = starts[i] + int64(counted[i][j])
		}
	}
	b.Int(passageTokens, tokens, int64(len(rows)), int64(longest))
	b.Float(passageBias, bias, int64(len(rows)), int64(longest))
}
