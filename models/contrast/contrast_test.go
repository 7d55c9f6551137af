package contrast_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// lossOf computes a loss of scores, [queries, passages], with the inputs that b has.
func lossOf(t *testing.T, b *ortrain.Batch, scores [][]float64, loss func(g *onnx.Graph, scores *onnx.Value) *onnx.Value) float64 {
	t.Helper()
	s, err := scoring.NewWithoutWeights("loss", func(g *onnx.Graph) *onnx.Value {
		return g.ReshapeTo(loss(g, g.Input("scores", onnx.Float32, onnx.NamedDim(contrast.QueriesDim), onnx.NamedDim(contrast.PassagesDim))), 1)
	}, runtime.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var flat []float32
	for _, row := range scores {
		for _, x := range row {
			flat = append(flat, float32(x))
		}
	}
	b.Float("scores", flat, int64(len(scores)), int64(len(scores[0])))
	out, err := s.Run(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	return float64(out[0])
}

// distinctScores returns scores, [queries, passages], that all differ.
func distinctScores(queries, passages int) [][]float64 {
	out := make([][]float64, queries)
	for i := range out {
		for j := range passages {
			out[i] = append(out[i], 3*math.Sin(float64(7*i+3*j+1)))
		}
	}
	return out
}

// InfoNCE equals its formula in float64 for every Denominator: over all passages, over the hard negatives only, and without
// passages that equal a positive of the query, which its own row or another one names.
func TestInfoNCE(t *testing.T) {
	queries, passages := []string{"q", "r", "q"}, []string{"a", "b", "c", "n", "a", "m"} // three positives, three negatives
	others := [][]string{{"a", "m"}, {"b"}, {"c"}}
	for _, c := range []struct {
		d              contrast.Denominator
		otherPositives [][]string
		denominators   [][]int // the passages in each query's denominator
	}{
		{contrast.Denominator{}, others, [][]int{{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}}},
		{contrast.Denominator{HardOnly: true}, others, [][]int{{0, 3, 4, 5}, {1, 3, 4, 5}, {2, 3, 4, 5}}},
		{contrast.Denominator{MaskDuplicates: true}, others, [][]int{{0, 1, 3}, {0, 1, 2, 3, 4, 5}, {1, 2, 3}}},
		{contrast.Denominator{MaskDuplicates: true}, nil, [][]int{{0, 1, 3, 5}, {0, 1, 2, 3, 4, 5}, {1, 2, 3, 5}}},
		{contrast.Denominator{HardOnly: true, MaskDuplicates: true}, others, [][]int{{0, 3}, {1, 3, 4, 5}, {2, 3}}},
	} {
		t.Run(fmt.Sprintf("%+v", c.d), func(t *testing.T) {
			scores, want := distinctScores(3, 6), 0.0
			for i, denominator := range c.denominators {
				sum := 0.0
				for _, j := range denominator {
					sum += math.Exp(scores[i][j])
				}
				want -= (scores[i][i] - math.Log(sum)) / 3
			}
			b := ortrain.NewBatch()
			c.d.Candidates(queries, passages, []int{0, 1, 2}, c.otherPositives).Bind(b, 0, len(queries))
			got := lossOf(t, b, scores, func(g *onnx.Graph, s *onnx.Value) *onnx.Value { return contrast.InfoNCE(g)(s) })
			if math.Abs(got-want) > 1e-5 {
				t.Errorf("loss %g, want %g", got, want)
			}
		})
	}
}

// KL equals its formula in float64, over each query's own passages, for groups of different sizes.
func TestKL(t *testing.T) {
	teacherScores := [][]float64{{2, -1, 0.5}, {1}, {0, 4}}
	scores, want, first := distinctScores(3, 6), 0.0, 0
	for i, teacher := range teacherScores {
		own := scores[i][first : first+len(teacher)]
		for j := range teacher {
			logT, logP := logSoftmax(teacher, j), logSoftmax(own, j)
			want += math.Exp(logT) * (logT - logP) / 3
		}
		first += len(teacher)
	}
	b := ortrain.NewBatch()
	contrast.BindKL(b, teacherScores, []string{"a", "b", "c", "d", "e", "f"})
	if got := lossOf(t, b, scores, contrast.KL); math.Abs(got-want) > 1e-5 {
		t.Errorf("loss %g, want %g", got, want)
	}
}

// logSoftmax returns element j of log softmax(x).
func logSoftmax(x []float64, j int) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v)
	}
	return x[j] - math.Log(sum)
}

// Softmax stays finite for scores whose exponentials overflow.
func TestSoftmax(t *testing.T) {
	p, logP := contrast.Softmax([]float64{1000, 998, -1e6}, 0.5)
	if want := []float32{float32(1 / (1 + math.Exp(-4))), float32(1 / (1 + math.Exp(4))), 0}; !slices.EqualFunc(p, want, func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-6 }) {
		t.Errorf("%v, want %v", p, want)
	}
	_, far := contrast.Softmax([]float64{-math.MaxFloat64, 1e39, math.MaxFloat64}, 0.5)
	for _, l := range append(logP, far...) {
		if math.IsNaN(float64(l)) || math.IsInf(float64(l), 0) {
			t.Errorf("logarithms %v and %v", logP, far)
		}
	}
}
