package encoder

import (
	"slices"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of TextMeans.
const (
	meanTokens  = "mean.tokens"  // of each text, its tokens' numbers in the batch, [texts, longest]; 0 at padding
	meanWeights = "mean.weights" // 1/length, and 0 at padding, [texts, 1, longest]
)

// meanBlock divides the length of TextMeans' rows. ONNX Runtime adds the products of a few tokens at a time, and the tokens that are
// left over one by one, which rounds differently. Without any left over, the length of the longest text does not matter.
const meanBlock = 16

// TextMeans is the mean [texts, hidden] of each text's states in a packed batch [tokens, hidden], for graphs that only score. texts
// names the dimension that counts the texts. Each text's states are gathered into rows of their own, so that a mean adds the same
// numbers in the same order whatever else is in the batch: the same text has the same bits. A product with MeanWeights, which
// trains, does not have that property: it adds up blocks of 128 tokens, and a text may begin anywhere in one.
func TextMeans(g *onnx.Graph, texts string, states *onnx.Value) *onnx.Value {
	defer g.Scope("mean")()
	n, longest := onnx.NamedDim(texts), onnx.NamedDim("mean_length")
	tokens := g.Input(meanTokens, onnx.Int64, n, longest)
	weights := g.Input(meanWeights, onnx.Float32, n, onnx.FixedDim(1), longest)
	return g.Squeeze(g.MatMul(weights, g.Gather(states, tokens, 0)), 1)
}

// BindTextMeans fills the inputs of TextMeans. Text i has lengths[i] tokens from starts[i] on.
func BindTextMeans(b *ortrain.Batch, starts []int64, lengths []int) {
	n, longest := len(starts), (slices.Max(lengths)+meanBlock-1)/meanBlock*meanBlock
	tokens, weights := make([]int64, n*longest), make([]float32, n*longest)
	for i, start := range starts {
		for j := range lengths[i] {
			tokens[i*longest+j], weights[i*longest+j] = start+int64(j), 1/float32(lengths[i])
		}
	}
	b.Int(meanTokens, tokens, int64(n), int64(longest))
	b.Float(meanWeights, weights, int64(n), 1, int64(longest))
}
