// Package contrast has the losses over a matrix of scores, [queries, passages]: InfoNCE, which trains on in-batch negatives,
// and KL, which distills a teacher's scores. Embedding and ColBERT models share them, since they differ only in how they
// compute the scores. The package scores nothing itself and reads no files.
//
// A loss has two sides. A function such as KL appends the loss to a graph, with inputs of its own for what the host knows of
// the batch. A function such as BindKL sets these inputs for each batch:
//
//	loss := contrast.KL(g, scores)                  // once, when the graph is built
//	contrast.BindKL(batch, teacherScores, passages) // for each batch
package contrast

import (
	"math"
	"slices"
)

// The names of the dimensions of scores, [queries, passages].
const (
	QueriesDim  = "queries"
	PassagesDim = "passages"
)

// MaskBias is added to the scores of passages that a softmax must ignore.
const MaskBias = -1e9

// Softmax returns softmax(scores / temperature) and its logarithm. The logarithm is at least MaskBias. Without this bound it
// could be -Inf where the probability is 0, and 0 · -Inf is NaN.
func Softmax(scores []float64, temperature float64) (p, logP []float32) {
	top, sum := slices.Max(scores), 0.0
	for _, s := range scores {
		sum += math.Exp((s - top) / temperature)
	}
	for _, s := range scores {
		l := max((s-top)/temperature-math.Log(sum), MaskBias)
		p, logP = append(p, float32(math.Exp(l))), append(logP, float32(l))
	}
	return p, logP
}
