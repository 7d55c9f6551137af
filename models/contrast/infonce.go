package contrast

import (
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of InfoNCE, both [queries, passages].
const (
	targetsInput   = "targets"    // 1 at a query's positive, else 0
	scoreBiasInput = "score_bias" // MaskBias at passages that are not in a query's denominator, else 0
)

// InfoNCE is the contrastive loss over in-batch negatives. scores, s_ij [queries, passages], are already divided by the
// temperature. The positive of query i is passage i; passages are all positives, then all hard negatives:
//
//	loss = mean over i of -log( exp(s_ii) / Σ_j exp(s_ij) )
//
// Denominator says which passages j the sum has. With all passages it is sentence-transformers' MultipleNegativesRankingLoss
// with scale 1/T, and without hard negatives also RAG-Retrieval's pair_inbatch_softmax_loss. With only the query's positive
// and the hard negatives it is RAG-Retrieval's triplet_inbatch_softmax_loss. Source: van den Oord et al. 2018. Use it for
// pairs, with or without hard negatives.
//
// InfoNCE adds its inputs to the graph and returns the function from scores to the loss. Denominator.Bind sets the inputs.
func InfoNCE(g *onnx.Graph) func(scores *onnx.Value) *onnx.Value {
	shape := []onnx.Dim{onnx.NamedDim(QueriesDim), onnx.NamedDim(PassagesDim)}
	bias, target := g.Input(scoreBiasInput, onnx.Float32, shape...), g.Input(targetsInput, onnx.Float32, shape...)
	return func(scores *onnx.Value) *onnx.Value {
		defer g.Scope("infonce")()
		logLikelihood := g.ReduceSum(g.Mul(target, g.LogSoftmax(g.Add(scores, bias), -1)), false, -1)
		return g.Neg(g.ReduceMean(logLikelihood, false, 0))
	}
}

// Denominator says which passages of a batch are in the denominator of a query's InfoNCE loss. The query's own positive
// always is. The zero value includes all passages.
type Denominator struct {
	HardOnly       bool // exclude the positives of the other queries
	MaskDuplicates bool // exclude passages whose text equals any positive of the query
}

// Bind sets the inputs of InfoNCE for a batch. queries and passages are texts; the positive of query i is passage i.
// otherPositives[i] are the further positives of query i in its training row; nil means none. Bind also sets
// b.ConstantLoss.
func (d Denominator) Bind(b *ortrain.Batch, queries, passages []string, otherPositives [][]string) {
	n, p := len(queries), len(passages)
	target, bias := make([]float32, n*p), make([]float32, n*p)
	positives := positivesOf(queries, passages, otherPositives)
	columns := map[string][]int{} // the columns of each distinct passage
	for j, text := range passages {
		columns[text] = append(columns[text], j)
	}
	for i, q := range queries {
		row := bias[i*p : (i+1)*p]
		if d.MaskDuplicates {
			for text := range positives[q] {
				for _, j := range columns[text] {
					row[j] = MaskBias
				}
			}
		}
		if d.HardOnly {
			for j := range row[:n] {
				row[j] = MaskBias
			}
		}
		row[i], target[i*p+i] = 0, 1
	}
	b.ConstantLoss = hasNoNegatives(bias, passages, n)
	b.Float(targetsInput, target, int64(n), int64(p))
	b.Float(scoreBiasInput, bias, int64(n), int64(p))
}

// positivesOf returns the set of positives of each distinct query: the positives of all its rows in the batch, and
// otherPositives.
func positivesOf(queries, passages []string, otherPositives [][]string) map[string]map[string]bool {
	positives := map[string]map[string]bool{}
	for i, q := range queries {
		if positives[q] == nil {
			positives[q] = map[string]bool{}
		}
		positives[q][passages[i]] = true
		if otherPositives != nil {
			for _, text := range otherPositives[i] {
				positives[q][text] = true
			}
		}
	}
	return positives
}

// hasNoNegatives reports whether no denominator has a passage whose text differs from the query's positive. The loss is
// constant then.
func hasNoNegatives(bias []float32, passages []string, queries int) bool {
	for i := range queries {
		for j, text := range passages {
			if bias[i*len(passages)+j] == 0 && text != passages[i] {
				return false
			}
		}
	}
	return true
}
