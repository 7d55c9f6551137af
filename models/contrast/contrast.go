// Package contrast is what the losses on scores of queries against passages share: embedding and ColBERT models differ in
// how they score, not in what they are told.
package contrast

import (
	"math"
	"slices"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The names of the rows, and the losses' inputs.
const (
	QueryRows   = "queries"
	PassageRows = "passages"

	targetsInput   = "targets"
	scoreBiasInput = "score_bias"
	memberInput    = "group.members"
	memberBias     = "group.bias"
	teacherInput   = "group.teacher"
	teacherLog     = "group.teacher_log"
)

// InfoNCE is the contrastive loss over in-batch negatives: with the score s_ij [queries, passages] of query i and passage
// j, already divided by the temperature, and the positive of query i at passage i,
//
//	loss = mean over i of -log( exp(s_ii) / Σ_j exp(s_ij) ).
//
// Passages are all positives, then all hard negatives. j runs over all passages (sentence-transformers'
// MultipleNegativesRankingLoss with scale 1/T; without hard negatives also RAG-Retrieval's pair_inbatch_softmax_loss), or
// over the own positive and all hard negatives alone (its triplet_inbatch_softmax_loss). A passage that equals a query's
// positive can be masked from that query's denominator. Source: van den Oord et al. 2018. Use it for pairs, with or
// without hard negatives.
func InfoNCE(g *onnx.Graph) func(scores *onnx.Value) *onnx.Value {
	shape := []onnx.Dim{onnx.N(QueryRows), onnx.N(PassageRows)}
	bias, target := g.Input(scoreBiasInput, onnx.Float32, shape...), g.Input(targetsInput, onnx.Float32, shape...)
	return func(scores *onnx.Value) *onnx.Value {
		defer g.Scope("infonce")()
		likelihood := g.ReduceSum(g.Mul(target, g.LogSoftmax(g.Add(scores, bias), -1)), false, -1)
		return g.Neg(g.ReduceMean(likelihood, false, 0))
	}
}

// Masked is added to scores that do not count.
const Masked = -1e9

// Denominator says which passages of a batch count as a query's negatives.
type Denominator struct {
	HardOnly       bool // not the other queries' positives
	MaskDuplicates bool // not what equals one of the query's positives
}

// Bind adds InfoNCE's inputs: the positive of query i is passage i. queries and passages are their texts; known are the
// further positives of each query, which its row names.
func (d Denominator) Bind(b *ortrain.Batch, queries, passages []string, known [][]string) {
	n, p := len(queries), len(passages)
	target, bias := make([]float32, n*p), make([]float32, n*p)
	where := map[string][]int{} // the places of each distinct passage
	for j, text := range passages {
		where[text] = append(where[text], j)
	}
	// Every positive of a query, its own and those of its other rows in this batch, is no negative of it.
	positives := map[string]map[string]bool{}
	for i, q := range queries {
		if positives[q] == nil {
			positives[q] = map[string]bool{}
		}
		positives[q][passages[i]] = true
		if known != nil {
			for _, text := range known[i] {
				positives[q][text] = true
			}
		}
	}
	for i, q := range queries {
		row := bias[i*p : (i+1)*p]
		if d.MaskDuplicates {
			for text := range positives[q] {
				for _, j := range where[text] {
					row[j] = Masked
				}
			}
		}
		if d.HardOnly {
			for j := range row[:n] {
				row[j] = Masked
			}
		}
		row[i], target[i*p+i] = 0, 1
	}
	b.ConstantLoss = idle(bias, passages, n)
	b.Float(targetsInput, target, int64(n), int64(p))
	b.Float(scoreBiasInput, bias, int64(n), int64(p))
}

// idle says whether no query's positive is told from a passage that differs from it.
func idle(bias []float32, passages []string, queries int) bool {
	for i := range queries {
		for j, text := range passages {
			if bias[i*len(passages)+j] == 0 && text != passages[i] {
				return false
			}
		}
	}
	return true
}

// KL tells a query's own passages the distribution of a teacher's scores r: with the scores s_ij [queries, passages],
// already divided by the temperature,
//
//	t = softmax of r over a query's own passages,  loss = mean over queries of Σ t·( log t - log softmax(s) ).
//
// Source: Hinton et al. 2015; PyLate's Distillation without its rescaling of the student's scores. Use it for a reranker's
// scores of each query's passages.
func KL(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("kl")()
	shape := []onnx.Dim{onnx.N(QueryRows), onnx.N("members")}
	s := g.Gather(g.ReshapeTo(scores, -1), g.Input(memberInput, onnx.Int64, shape...), 0)
	logP := g.LogSoftmax(g.Add(s, g.Input(memberBias, onnx.Float32, shape...)), -1)
	t, logT := g.Input(teacherInput, onnx.Float32, shape...), g.Input(teacherLog, onnx.Float32, shape...)
	return g.ReduceMean(g.ReduceSum(g.Mul(t, g.Sub(logT, logP)), false, -1), false, 0)
}

// BindKL adds KL's inputs: groups are the teacher's scores of each query's passages, which lie query by query.
func BindKL(b *ortrain.Batch, groups [][]float64, passages []string) {
	most := 0
	for _, group := range groups {
		most = max(most, len(group))
	}
	n := len(groups) * most
	members, bias := make([]int64, n), make([]float32, n)
	t, logT := make([]float32, n), make([]float32, n)
	first := 0
	b.ConstantLoss = true
	for i, group := range groups {
		own := passages[first : first+len(group)]
		b.ConstantLoss = b.ConstantLoss && slices.Min(own) == slices.Max(own)
		p, logP := Softmax(group, 1)
		for j := range most {
			at := i*most + j
			if j >= len(group) {
				bias[at] = Masked
				continue
			}
			members[at] = int64(i*len(passages) + first + j)
			t[at], logT[at] = p[j], logP[j]
		}
		first += len(group)
	}
	rows, width := int64(len(groups)), int64(most)
	b.Int(memberInput, members, rows, width)
	b.Float(memberBias, bias, rows, width)
	b.Float(teacherInput, t, rows, width)
	b.Float(teacherLog, logT, rows, width)
}

// Softmax gives softmax(scores / temperature) and its logarithm, which ends at Masked: where it is that small its
// probability is zero, and zero times -Inf would be no number.
func Softmax(scores []float64, temperature float64) (p, logP []float32) {
	top, sum := slices.Max(scores), 0.0
	for _, s := range scores {
		sum += math.Exp((s - top) / temperature)
	}
	for _, s := range scores {
		l := max((s-top)/temperature-math.Log(sum), Masked)
		p, logP = append(p, float32(math.Exp(l))), append(logP, float32(l))
	}
	return p, logP
}
