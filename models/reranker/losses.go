package reranker

import (
	"math"
	"slices"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The losses' inputs.
const (
	labelsInput  = "labels"
	betterInput  = "better"       // of each pair of passages with different labels, the one with the larger label
	worseInput   = "worse"        // the other one
	weightInput  = "order_weight" // the weight of the pair
	membersInput = "group.members"
	groupBias    = "group.bias"
	groupTargets = "group.targets"
)

// loss is one of the reranker's losses.
type loss struct {
	grouped bool // the loss needs all passages of a query
	// graph adds the loss of the scores [pairs].
	graph func(g *onnx.Graph, scores *onnx.Value) *onnx.Value
	// bind sets the loss's inputs for a batch. groups has the labels of each query's passages. places has the index of each passage's
	// score, group by group; a point-wise loss does not need it, since its scores are in the order of the labels.
	bind func(b *ortrain.Batch, groups [][]float64, places []int64)
	// equal returns the loss of a batch if all scores are 0. It is nil for pointwise_mse, which is at most 1: it never starts far too high.
	equal func(groups [][]float64) float64
}

var losses = map[string]loss{
	"pointwise_bce":    {graph: pointwiseBCE, bind: bindLabels, equal: equalBCE},
	"pointwise_mse":    {graph: pointwiseMSE, bind: bindLabels},
	"pairwise_ranknet": {grouped: true, graph: pairwiseRankNet, bind: bindOrder, equal: equalRankNet},
	"listwise_ce":      {grouped: true, graph: listwiseCE, bind: bindTargets, equal: equalCE},
}

// softplus is log(1 + exp(x)), in the form that does not overflow.
func softplus(g *onnx.Graph, x *onnx.Value) *onnx.Value {
	return g.Add(g.Relu(x), g.Log(g.Add(g.Exp(g.Neg(g.Abs(x))), g.Scalar(x, 1))))
}

// pointwiseBCE is the binary cross-entropy of a score s against its label y in [0, 1]:
//
//	loss = mean of log(1 + exp(s)) - y·s.
//
// Equals torch's BCEWithLogitsLoss and RAG-Retrieval's pointwise_bce. Use it for labels of relevance, soft ones too.
func pointwiseBCE(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("pointwise_bce")()
	y := g.Input(labelsInput, onnx.Float32, onnx.NamedDim(pairRows))
	return g.ReduceMean(g.Sub(softplus(g, scores), g.Mul(y, scores)), false, 0)
}

func equalBCE([][]float64) float64 { return math.Ln2 }

// pointwiseMSE is the squared error of a score's sigmoid against its label y in [0, 1]:
//
//	loss = mean of (sigmoid(s) - y)².
//
// Equals RAG-Retrieval's pointwise_mse. Use it for a teacher's graded scores.
func pointwiseMSE(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("pointwise_mse")()
	y := g.Input(labelsInput, onnx.Float32, onnx.NamedDim(pairRows))
	d := g.Sub(g.Sigmoid(scores), y)
	return g.ReduceMean(g.Mul(d, d), false, 0)
}

func bindLabels(b *ortrain.Batch, groups [][]float64, _ []int64) {
	var labels []float32
	for _, group := range groups {
		for _, y := range group {
			labels = append(labels, float32(y))
		}
	}
	b.Float(labelsInput, labels, int64(len(labels)))
}

// pairwiseRankNet trains the passage with the larger label to score higher. Over the pairs (i, j) of passages of a query with
// y_i > y_j,
//
//	loss = mean of (y_i - y_j) · log(1 + exp(-(s_i - s_j))).
//
// Source: Burges et al. 2005. Equals RAG-Retrieval's pairwise_ranknet, whose weight is the difference of the labels. Use it
// for two or more levels of relevance.
func pairwiseRankNet(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("pairwise_ranknet")()
	n := onnx.NamedDim("orders")
	d := g.Sub(g.Gather(scores, g.Input(worseInput, onnx.Int64, n), 0), g.Gather(scores, g.Input(betterInput, onnx.Int64, n), 0))
	return g.ReduceSum(g.Mul(softplus(g, d), g.Input(weightInput, onnx.Float32, n)), false, 0)
}

func equalRankNet(groups [][]float64) float64 {
	sum, n := 0.0, 0
	for _, group := range groups {
		for _, yi := range group {
			for _, yj := range group {
				if yi > yj {
					sum, n = sum+(yi-yj), n+1
				}
			}
		}
	}
	return math.Ln2 * sum / float64(max(1, n))
}

// bindOrder leaves out pairs of equal labels. A batch without any other pair gets one pair of weight 0.
func bindOrder(b *ortrain.Batch, groups [][]float64, places []int64) {
	var better, worse []int64
	var weights []float32
	first := 0
	for _, group := range groups {
		for i, yi := range group {
			for j, yj := range group {
				if yi > yj {
					better, worse = append(better, places[first+i]), append(worse, places[first+j])
					weights = append(weights, float32(yi-yj))
				}
			}
		}
		first += len(group)
	}
	if len(weights) == 0 {
		better, worse, weights = places[:1], places[:1], []float32{0}
	}
	n := int64(len(weights))
	for i := range weights {
		weights[i] /= float32(n)
	}
	b.Int(betterInput, better, n)
	b.Int(worseInput, worse, n)
	b.Float(weightInput, weights, n)
}

// listwiseCE trains the softmax of a query's scores to equal the distribution t of its labels. Over the passages of a query,
//
//	t = softmax of the labels that are not zero, zero elsewhere,  loss = mean over queries of -Σ t · log softmax(s).
//
// Queries whose labels are all equal do not count. Equals RAG-Retrieval's listwise_ce. If one label is 1 and the others are 0, it is
// the softmax cross-entropy. Use it where one passage of many is right.
func listwiseCE(g *onnx.Graph, scores *onnx.Value) *onnx.Value {
	defer g.Scope("listwise_ce")()
	shape := []onnx.Dim{onnx.NamedDim("groups"), onnx.NamedDim("members")}
	s := g.Gather(scores, g.Input(membersInput, onnx.Int64, shape...), 0)
	logP := g.LogSoftmax(g.Add(s, g.Input(groupBias, onnx.Float32, shape...)), -1)
	return g.Neg(g.ReduceSum(g.Mul(g.Input(groupTargets, onnx.Float32, shape...), logP), false)) // the mean is in the targets
}

func equalCE(groups [][]float64) float64 {
	sum := 0.0
	for _, group := range groups {
		if differ(group) {
			sum += math.Log(float64(len(group)))
		}
	}
	return sum / float64(max(1, counting(groups)))
}

// absent is added to the scores of a group's places that have no passage.
const absent = -1e9

// bindTargets divides the targets by the number of groups that count. Their sum over a batch is 1, or 0 if no group counts.
func bindTargets(b *ortrain.Batch, groups [][]float64, places []int64) {
	most := 0
	for _, group := range groups {
		most = max(most, len(group))
	}
	n, counted := len(groups)*most, counting(groups)
	members, bias, targets := make([]int64, n), make([]float32, n), make([]float32, n)
	first := 0
	for k, group := range groups {
		p := distribution(group)
		for i := range most {
			at := k*most + i
			if i >= len(group) {
				bias[at] = absent
				continue
			}
			members[at] = places[first+i]
			if differ(group) {
				targets[at] = float32(p[i] / float64(counted))
			}
		}
		first += len(group)
	}
	rows, width := int64(len(groups)), int64(most)
	b.Int(membersInput, members, rows, width)
	b.Float(groupBias, bias, rows, width)
	b.Float(groupTargets, targets, rows, width)
}

// distribution returns the softmax of the labels that are not 0, and 0 for the others. The largest is subtracted first, because exp
// overflows above 709.
func distribution(labels []float64) []float64 {
	top, sum := math.Inf(-1), 0.0
	for _, y := range labels {
		if y != 0 {
			top = max(top, y)
		}
	}
	out := make([]float64, len(labels))
	for i, y := range labels {
		if y != 0 {
			out[i] = math.Exp(y - top)
			sum += out[i]
		}
	}
	for i := range out {
		out[i] /= max(sum, 1) // the largest term is 1, so the sum is smaller only if all labels are 0
	}
	return out
}

// differ reports whether the labels of a group are not all equal. Other groups teach nothing.
func differ(labels []float64) bool { return slices.Min(labels) != slices.Max(labels) }

// counting returns the number of groups whose labels differ.
func counting(groups [][]float64) int {
	n := 0
	for _, group := range groups {
		if differ(group) {
			n++
		}
	}
	return n
}
