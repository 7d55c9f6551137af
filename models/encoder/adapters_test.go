package encoder_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// Every folder of PEFT in testdata/lora: the encoder that is opened for it has PEFT's hidden states. The folders have adapters of all and
// of some modules, patterns of ranks, rsLoRA, and regular expressions for targets.
func TestPEFTFoldersEqualPEFT(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	paths, err := filepath.Glob("testdata/lora/*/hidden.json")
	check(t, err)
	if len(paths) < 20 {
		t.Fatalf("%d folders", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			dir, err := resolve.Resolver{}.Model(t.Context(), filepath.Dir(path))
			check(t, err)
			c, err := encoder.LoadConfig(dir)
			check(t, err)
			c.SetDropout(0)
			b, err := os.ReadFile(path)
			check(t, err)
			var want hidden
			check(t, json.Unmarshal(b, &want))
			var rows []encoder.Row
			for _, ids := range want.Rows {
				rows = append(rows, encoder.Row{IDs: ids})
			}
			tr := trainerOf(t, c, encoder.Shape{Rows: 5, MaxLength: 16, Groups: 1})
			check(t, tr.Fill(func(l *flat.Layout, to []float32) error { return c.ReadWeights(dir, l, to) }))
			sum, k := 0.0, 0
			for _, h := range want.Hidden {
				for _, x := range h {
					sum, k = sum+float64(factor(k))*x, k+1
				}
			}
			loss, _, err := tr.Gradients(fixtureBatch(c, rows, 1))
			check(t, err)
			if math.Abs(loss-sum) > 1e-4*math.Max(1, math.Abs(sum)) {
				t.Errorf("the sum of hidden states by factors is %g, PEFT's %g", loss, sum)
			}
		})
	}
}
