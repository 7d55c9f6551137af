package embedding

import "rag-retrieval-go/ortrain/onnx"

// matryoshka is the mean over k of the loss on the first dims[k] numbers of each vector, normalized again. Source: Kusupati et al.
// 2022. It equals RAG-Retrieval's use_mrl, and sentence-transformers' MatryoshkaLoss with equal weights, which returns the sum
// instead of the mean.
func matryoshka(g *onnx.Graph, loss vectorLoss, dims []int) vectorLoss {
	return func(q, p *onnx.Value) *onnx.Value {
		defer g.Scope("matryoshka")()
		return overCuts(g, dims, func(d int) *onnx.Value { return loss(cut(g, q, d), cut(g, p, d)) })
	}
}

// cut returns the first d numbers of each vector [n, width], normalized.
func cut(g *onnx.Graph, x *onnx.Value, d int) *onnx.Value {
	return normalized(g, g.Slice(x, g.IntVector(0), g.IntVector(int64(d)), g.IntVector(1)))
}

// overCuts returns the mean of a loss over all dims.
func overCuts(g *onnx.Graph, dims []int, loss func(d int) *onnx.Value) *onnx.Value {
	var sum *onnx.Value
	for _, d := range dims {
		l := loss(d)
		if sum == nil {
			sum = l
		} else {
			sum = g.Add(sum, l)
		}
	}
	return g.Mul(sum, g.Scalar(sum, 1/float64(len(dims))))
}
