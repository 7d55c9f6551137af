package contrast

import (
	"math"
	"slices"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of KL, [queries, members]. A query's members are its own passages, padded to the longest list in the batch.
const (
	memberInput     = "group.members"     // where a member's score is in the flattened scores
	memberBiasInput = "group.bias"        // MaskBias at padding, else 0
	teacherInput    = "group.teacher"     // the teacher's probability t
	teacherLogInput = "group.teacher_log" // log t
)

// KL is the Kullback-Leibler divergence from a teacher's distribution over each query's own passages. scores, s_ij [queries,
// passages], are already divided by the temperature. With r, the teacher's scores of the query's passages,
//
//	t = softmax(r),  loss = mean over queries of Σ t·( log t - log softmax(s) )
//
// where both softmaxes are over the query's own passages. Source: Hinton et al. 2015. It is PyLate's Distillation without
// its rescaling of the student's scores. Use it to distill a reranker's scores. BindKL sets the inputs.
func KL(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("kl")()
	shape := []onnx.Dim{onnx.NamedDim(QueriesDim), onnx.NamedDim("members")}
	s := g.Gather(g.ReshapeTo(scores, -1), g.Input(memberInput, onnx.Int64, shape...), 0)
	logP := g.LogSoftmax(g.Add(s, g.Input(memberBiasInput, onnx.Float32, shape...)), -1)
	t, logT := g.Input(teacherInput, onnx.Float32, shape...), g.Input(teacherLogInput, onnx.Float32, shape...)
	return g.ReduceMean(g.ReduceSum(g.Mul(t, g.Sub(logT, logP)), false, -1), false, 0)
}

// BindKL sets the inputs of KL for a batch. teacherScores[i] are the teacher's scores of the passages of query i. passages
// are the texts of all queries' passages, query by query. BindKL also sets b.ConstantLoss, and b.EqualScoresLoss to an upper bound,
// the mean of log n over queries with n passages: from it the entropy of the teacher's distribution is subtracted in the loss.
func BindKL(b *ortrain.Batch, teacherScores [][]float64, passages []string) {
	width := 0
	for _, group := range teacherScores {
		width = max(width, len(group))
	}
	n := len(teacherScores) * width
	members, bias := make([]int64, n), make([]float32, n)
	t, logT := make([]float32, n), make([]float32, n)
	first := 0 // the first passage of query i
	b.ConstantLoss = true
	for i, group := range teacherScores {
		own := passages[first : first+len(group)]
		b.ConstantLoss = b.ConstantLoss && slices.Min(own) == slices.Max(own) // equal texts have equal scores
		p, logP := Softmax(group, 1)
		for j := range width {
			k := i*width + j
			if j >= len(group) {
				bias[k] = MaskBias
				continue
			}
			members[k] = int64(i*len(passages) + first + j)
			t[k], logT[k] = p[j], logP[j]
		}
		first += len(group)
	}
	b.EqualScoresLoss = func() float64 { return meanLogLength(teacherScores) }
	dims := []int64{int64(len(teacherScores)), int64(width)}
	b.Int(memberInput, members, dims...)
	b.Float(memberBiasInput, bias, dims...)
	b.Float(teacherInput, t, dims...)
	b.Float(teacherLogInput, logT, dims...)
}

// meanLogLength returns the mean of log n over groups of n.
func meanLogLength(groups [][]float64) float64 {
	sum := 0.0
	for _, group := range groups {
		sum += math.Log(float64(len(group)))
	}
	return sum / float64(max(1, len(groups)))
}
