package embedding

import (
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The names of the loss's rows and inputs.
const (
	queryRows   = "queries"
	passageRows = "passages"
	targets     = "targets"
	scoreBias   = "score_bias"
)

// infoNCE is the contrastive loss over in-batch negatives: with unit vectors q [queries, hidden] and
// p [passages, hidden], and the positive of query i at passage i,
//
//	loss = mean over i of -log( exp(q_i·p_i / T) / Σ_j exp(q_i·p_j / T) ).
//
// Passages are all positives, then all hard negatives; a passage that equals a query's positive is masked from that
// query's denominator. Source: van den Oord et al. 2018; equals sentence-transformers' MultipleNegativesRankingLoss
// with scale 1/T and RAG-Retrieval's pair_inbatch_softmax_loss. Use it for pairs, with or without hard negatives.
func infoNCE(g *onnx.Graph, q, p *onnx.Value, temperature float64) *onnx.Value {
	defer g.Scope("infonce")()
	shape := []onnx.Dim{onnx.N(queryRows), onnx.N(passageRows)}
	scores := g.FusedMatMul(q, p, onnx.FusedMatMulAttrs{Alpha: float32(1 / temperature), TransB: true})
	scores = g.Add(scores, g.Input(scoreBias, onnx.Float32, shape...))
	likelihood := g.ReduceSum(g.Mul(g.Input(targets, onnx.Float32, shape...), g.LogSoftmax(scores, -1)), false, -1)
	return g.Neg(g.ReduceMean(likelihood, false, 0))
}

// masked is added to the scores of passages that are no negatives of a query.
const masked = -1e9

// bindInfoNCE adds the loss's inputs: the positive of query i is passage i. passages are their texts.
func bindInfoNCE(b *ortrain.Batch, queries []string, passages []string) {
	n, p := len(queries), len(passages)
	target, bias := make([]float32, n*p), make([]float32, n*p)
	// Every positive of a query in this batch, its own and those of its other rows, is no negative of it.
	positives := map[string]map[string]bool{}
	for i, q := range queries {
		if positives[q] == nil {
			positives[q] = map[string]bool{}
		}
		positives[q][passages[i]] = true
	}
	for i, q := range queries {
		for j, passage := range passages {
			if i != j && positives[q][passage] {
				bias[i*p+j] = masked
			}
		}
		target[i*p+i] = 1
	}
	b.Float(targets, target, int64(n), int64(p))
	b.Float(scoreBias, bias, int64(n), int64(p))
}
