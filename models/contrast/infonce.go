package contrast

import (
	"math"

	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// The inputs of InfoNCE, both [queries, passages].
const (
	targetsInput   = "targets"    // 1 at a query's positive, else 0
	scoreBiasInput = "score_bias" // MaskBias at passages that are not in a query's denominator, else 0
)

// InfoNCE is the contrastive loss over in-batch negatives. scores, s_ij [queries, passages], are already divided by the
// temperature. The positive of query i is passage p(i); passages are positives and hard negatives in any order:
//
//	loss = mean over i of -log( exp(s_ip(i)) / Σ_j exp(s_ij) )
//
// Denominator says which passages j the sum has. With all passages it is sentence-transformers' MultipleNegativesRankingLoss
// with scale 1/T, and without hard negatives also RAG-Retrieval's pair_inbatch_softmax_loss. With only the query's positive
// and the hard negatives it is RAG-Retrieval's triplet_inbatch_softmax_loss. Source: van den Oord et al. 2018. Use it for
// pairs, with or without hard negatives.
//
// InfoNCE adds its inputs to the graph and returns the function from scores to the loss. Candidates.Bind sets the inputs.
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

// Candidates are the texts of a batch and what a Denominator makes of them. They set the inputs of InfoNCE for some of the
// queries at a time, so that the inputs of a large batch, [queries, passages], are never there as a whole.
type Candidates struct {
	d          Denominator
	queries    []string
	passages   []string
	positives  []int                      // the passage that is the positive of each query
	positiveOf []bool                     // whether a passage is the positive of a query
	ofQuery    map[string]map[string]bool // all texts that are positives of a query
	columns    map[string][]int           // the passages of each text
}

// Candidates prepares the inputs of InfoNCE for a batch. queries and passages are texts; the positive of query i is passage
// positives[i]. otherPositives[i] are the further positives of query i in its training row; nil means none.
func (d Denominator) Candidates(queries, passages []string, positives []int, otherPositives [][]string) *Candidates {
	c := &Candidates{
		d: d, queries: queries, passages: passages, positives: positives, positiveOf: make([]bool, len(passages)),
		ofQuery: map[string]map[string]bool{}, columns: map[string][]int{},
	}
	for j, text := range passages {
		c.columns[text] = append(c.columns[text], j)
	}
	for i, q := range queries {
		texts := c.ofQuery[q]
		if texts == nil {
			texts = map[string]bool{}
			c.ofQuery[q] = texts
		}
		texts[passages[positives[i]]] = true
		c.positiveOf[positives[i]] = true
		if otherPositives != nil {
			for _, text := range otherPositives[i] {
				texts[text] = true
			}
		}
	}
	return c
}

// Bind sets the inputs of InfoNCE for the queries from, …, to-1 and all passages.
func (c *Candidates) Bind(b *ortrain.Batch, from, to int) {
	n, p := to-from, len(c.passages)
	target, bias := b.Zeros(targetsInput, n*p), b.Zeros(scoreBiasInput, n*p)
	for i := range n {
		c.fill(bias[i*p:(i+1)*p], from+i)
		target[i*p+c.positives[from+i]] = 1
	}
	b.Float(targetsInput, target, int64(n), int64(p))
	b.Float(scoreBiasInput, bias, int64(n), int64(p))
}

// fill sets MaskBias at the passages that are not in the denominator of a query. The others must be 0.
func (c *Candidates) fill(bias []float32, query int) {
	if c.d.MaskDuplicates {
		for text := range c.ofQuery[c.queries[query]] {
			for _, j := range c.columns[text] {
				bias[j] = MaskBias
			}
		}
	}
	if c.d.HardOnly {
		for j := range bias {
			if c.positiveOf[j] {
				bias[j] = MaskBias
			}
		}
	}
	bias[c.positives[query]] = 0
}

// EqualScoresLoss returns the loss of the queries from, …, to-1 if all scores are equal: the mean of log n, where n is the number of
// passages in a query's denominator.
func (c *Candidates) EqualScoresLoss(from, to int) float64 {
	bias, sum := make([]float32, len(c.passages)), 0.0
	for i := from; i < to; i++ {
		clear(bias)
		c.fill(bias, i)
		n := 0
		for _, x := range bias {
			if x == 0 {
				n++
			}
		}
		sum += math.Log(float64(n))
	}
	return sum / float64(max(1, to-from))
}

// ConstantLoss reports whether no denominator has a passage whose text differs from the query's positive. The loss is
// constant then.
func (c *Candidates) ConstantLoss() bool {
	bias := make([]float32, len(c.passages))
	for i := range c.queries {
		clear(bias)
		c.fill(bias, i)
		for j, x := range bias {
			if x == 0 && c.passages[j] != c.passages[c.positives[i]] {
				return false
			}
		}
	}
	return true
}
