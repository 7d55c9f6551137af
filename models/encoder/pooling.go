package encoder

import "rag-retrieval-go/ortrain/onnx"

// MeanWeights is the matrix [texts, tokens] whose product with the hidden states of a packed batch is the mean of each text.
// Text i has lengths[i] tokens from starts[i] on.
func MeanWeights(starts []int64, lengths []int, tokens int64) []float32 {
	weights := make([]float32, int64(len(starts))*tokens)
	for i, start := range starts {
		for j := range lengths[i] {
			weights[int64(i)*tokens+start+int64(j)] = 1 / float32(lengths[i])
		}
	}
	return weights
}

// PaddedMean is the mean [batch, hidden] of the hidden states [batch, sequence, hidden] where the mask [batch, sequence] is 1.
func PaddedMean(g *onnx.Graph, hidden, mask *onnx.Value) *onnx.Value {
	sum := g.ReduceSum(g.Mul(hidden, g.Unsqueeze(mask, 2)), false, 1)
	return g.Div(sum, g.Clip(g.ReduceSum(mask, true, 1), g.Scalar(mask, 1e-9), nil))
}

// PaddedLast is the hidden state [batch, hidden] of each row's last token whose mask [batch, sequence] is 1; of its first
// token where there is none. The states are [batch·sequence, hidden].
func PaddedLast(g *onnx.Graph, states, mask *onnx.Value) *onnx.Value {
	size := func(axis int64) *onnx.Value {
		return g.Squeeze(g.Gather(g.Shape(mask), g.IntVector(axis), 0), 0)
	}
	// The last token is the one whose number among the mask's tokens is the count of them. ReduceMax of the positions would need
	// its axes as an attribute in this opset.
	is := g.Mul(mask, g.Cast(g.Equal(g.CumSum(mask, 1), g.ReduceSum(mask, true, 1)), onnx.Float32))
	at := g.Cast(g.Range(g.IntScalar(0), size(1)), onnx.Float32)
	last := g.Cast(g.ReduceSum(g.Mul(is, at), false, 1), onnx.Int64)
	rows := g.Mul(g.Range(g.IntScalar(0), size(0)), size(1)) // where each row starts
	return g.Gather(states, g.Add(rows, last), 0)
}
