package encoder_test

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// With dropout, the loss and the gradients that kernels compute equal those of ONNX Runtime's operators: causal attention and windows, shared
// heads, texts whole and in blocks, texts of odd lengths and of several blocks of queries.
func TestTrainingEqualsStockOperators(t *testing.T) {
	const longest = 133
	for _, name := range []string{"modernbert", "gemma3", "gemma3-old", "qwen3-causal", "mistral"} {
		for _, x := range []struct{ groups, windowBlock, rows int }{{1, 0, 5}, {3, 7, 5}, {1, 0, 40_000}} { // as many rows: dropout's factors in many pieces
			if x.rows > 5 && name != "qwen3-causal" {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d groups, blocks of %d, up to %d rows", name, x.groups, x.windowBlock, x.rows), func(t *testing.T) {
				t.Parallel()
				c, err := encoder.LoadConfig(filepath.Join("testdata", name))
				check(t, err)
				c.WindowBlock, c.MaxPositionEmbeddings, c.AttentionDropout, c.HiddenDropout = x.windowBlock, longest, 0.1, 0.1
				s := encoder.Shape{Rows: x.rows, MaxLength: longest, Groups: x.groups}
				var losses [2]float64
				var gradients [2][]float32
				for i, o := range []runtime.Options{{Threads: 2, StockOperators: true}, {Threads: 2}} {
					tr := trainerWith(t, c, s, o)
					check(t, tr.Fill(func(l *flat.Layout, to []float32) error { return c.ReadWeights(filepath.Join("testdata", name), l, to) }))
					losses[i], gradients[i], err = tr.Gradients(fixtureBatch(c, tokens(1, 33, longest, 67, 9), x.groups))
					check(t, err)
				}
				if math.Abs(losses[1]-losses[0]) > 1e-4*math.Max(1, math.Abs(losses[0])) {
					t.Errorf("loss %g, with stock operators %g", losses[1], losses[0])
				}
				largest, far := 0.0, 0.0
				for i, x := range gradients[0] {
					largest, far = max(largest, math.Abs(float64(x))), max(far, math.Abs(float64(x-gradients[1][i])))
				}
				if !(far <= 1e-5*largest) || far == 0 {
					t.Errorf("gradients differ by %g, the largest is %g; other operators give other last bits", far, largest)
				}
			})
		}
	}
}
