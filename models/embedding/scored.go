package embedding

import (
	"math"
	"slices"

	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of losses on scored pairs: query i and passage i have the score labels[i].
const (
	labelsInput    = "labels"
	logLabelsInput = "log_labels"
	orderInput     = "order_bias"
)

// cosines returns q_i·p_i for each pair of unit vectors, [queries].
func cosines(g *onnx.Graph, q, p *onnx.Value) *onnx.Value { return g.ReduceSum(g.Mul(q, p), false, -1) }

// cosine is the squared error of a pair's cosine against its score s:
//
//	loss = mean over i of (q_i·p_i - s_i)².
//
// Equals sentence-transformers' CosineSimilarityLoss. Use it for scores that are meant as cosines.
func cosine(g *onnx.Graph) vectorLoss {
	labels := g.Input(labelsInput, onnx.Float32, onnx.NamedDim(contrast.QueriesDim))
	return func(q, p *onnx.Value) *onnx.Value {
		defer g.Scope("cosine")()
		d := g.Sub(cosines(g, q, p), labels)
		return g.ReduceMean(g.Mul(d, d), false, 0)
	}
}

// cosent ranks the pairs of a batch by their scores s:
//
//	loss = log( 1 + Σ over i, j with s_i > s_j of exp( (q_j·p_j - q_i·p_i) / T ) ).
//
// Source: Su 2022 (https://kexue.fm/archives/8847); equals sentence-transformers' CoSENTLoss with scale 1/T. Use it for
// scores whose order matters, not their size.
func cosent(g *onnx.Graph, temperature float64) vectorLoss {
	n := onnx.NamedDim(contrast.QueriesDim)
	bias := g.Input(orderInput, onnx.Float32, n, n)
	return func(q, p *onnx.Value) *onnx.Value {
		defer g.Scope("cosent")()
		s := cosines(g, q, p)
		s = g.Mul(s, g.Scalar(s, 1/temperature))
		d := g.Add(g.Sub(g.Unsqueeze(s, 0), g.Unsqueeze(s, 1)), bias) // [i, j]: s_j - s_i
		all := g.Concat(0, g.Const(onnx.Floats([]float32{0}, 1)), g.ReshapeTo(d, -1))
		return g.ReduceLogSumExp(all, false, 0)
	}
}

// pairKL is the Kullback-Leibler divergence from the distribution of a teacher's scores s over the pairs of a batch:
//
//	t = softmax(s / T),  loss = Σ over i of t_i·( log t_i - log softmax(q·p / T)_i ).
//
// Source: RAG-Retrieval's pair_kl_loss, a softmax over the pairs of the batch. Use it for a teacher's scores of pairs.
func pairKL(g *onnx.Graph, temperature float64) vectorLoss {
	n := onnx.NamedDim(contrast.QueriesDim)
	t, logT := g.Input(labelsInput, onnx.Float32, n), g.Input(logLabelsInput, onnx.Float32, n)
	return func(q, p *onnx.Value) *onnx.Value {
		defer g.Scope("pair_kl")()
		s := cosines(g, q, p)
		s = g.LogSoftmax(g.Unsqueeze(g.Mul(s, g.Scalar(s, 1/temperature)), 0), -1)
		return g.ReduceSum(g.Mul(t, g.Sub(logT, g.Squeeze(s, 0))), false)
	}
}

// idle says whether a loss of this name finds nothing to tell apart in these pairs.
func idle(loss string, queries, passages []string, scores []float64) bool {
	if loss == "cosine" {
		return false // each pair is compared with its own score
	}
	same := slices.Min(queries) == slices.Max(queries) && slices.Min(passages) == slices.Max(passages)
	return same || loss == "cosent" && slices.Min(scores) == slices.Max(scores)
}

// equalScoresLoss returns the loss of this name if all cosines are equal: that of cosent for n ordered pairs is log(1 + n); for pair_kl
// an upper bound, log n of n pairs, from which the entropy of the teacher's distribution is subtracted. It returns nil for cosine,
// which depends on the value that all cosines have.
func equalScoresLoss(loss string, scores []float64) func() float64 {
	switch loss {
	case "cosent":
		return func() float64 {
			ordered := 0
			for _, x := range scores {
				for _, y := range scores {
					if x > y {
						ordered++
					}
				}
			}
			return math.Log(float64(1 + ordered))
		}
	case "pair_kl":
		return func() float64 { return math.Log(float64(len(scores))) }
	}
	return nil
}

// bindScores fills the inputs of the loss of this name.
func bindScores(b *ortrain.Batch, loss string, scores []float64, temperature float64) {
	n := len(scores)
	switch loss {
	case "cosine":
		labels := make([]float32, n)
		for i, s := range scores {
			labels[i] = float32(s)
		}
		b.Float(labelsInput, labels, int64(n))
	case "cosent":
		bias := make([]float32, n*n)
		for i := range scores {
			for j := range scores {
				if scores[i] <= scores[j] {
					bias[i*n+j] = contrast.MaskBias
				}
			}
		}
		b.Float(orderInput, bias, int64(n), int64(n))
	case "pair_kl":
		t, logT := contrast.Softmax(scores, temperature)
		b.Float(labelsInput, t, int64(n))
		b.Float(logLabelsInput, logT, int64(n))
	}
}
