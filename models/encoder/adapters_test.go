package encoder_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
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

// Every architecture, in every spelling of its base's tensors: an adapter that is written and opened with its base gives the weights that its
// products are added to.
func TestAdaptersAreWrittenAndReadBack(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	for _, name := range folders(t) {
		for _, targets := range [][]string{{encoder.AllLinear}, someTargets[modelType(t, name)]} {
			if targets == nil {
				continue
			}
			base, err := filepath.Abs(filepath.Join("testdata", name))
			check(t, err)
			whole, err := encoder.LoadConfig(base)
			check(t, err)
			c := whole
			check(t, c.SetLoRA(encoder.LoRA{Rank: 3, Alpha: 5, Targets: targets, Seed: 7}))
			l, err := flat.NewLayout(c.Params())
			check(t, err)
			values := make([]float32, l.Total)
			check(t, errorsJoin(whole.ReadWeights(base, l, values), randomAdapters(l, values)))
			wl, want, err := c.Merged(whole.Params(), l, values)
			check(t, err)
			for _, task := range []string{hf.FeatureExtraction, hf.CausalLM} {
				prefix := ""
				if task == hf.CausalLM {
					prefix = c.WholeNaming().Prefix
				}
				tensors, err := c.AdapterTensors(l, values, prefix)
				check(t, err)
				a := c.AdapterConfig()
				a.Base, a.TaskType = base, task
				dir := t.TempDir()
				check(t, hf.WriteAdapter(dir, a, nil, tensors))
				view, err := resolve.Resolver{}.Model(t.Context(), dir)
				check(t, err)
				got := make([]float32, wl.Total)
				check(t, whole.ReadWeights(view, wl, got))
				for i := range got {
					if math.Abs(float64(got[i]-want[i])) > 1e-6 {
						t.Fatalf("%s, %s, %q: element %d is %g, want %g", name, task, targets, i, got[i], want[i])
					}
				}
			}
		}
	}
}

// target_modules name the adapted modules as short as possible, so that no other linear layer of transformers' class is meant too.
func TestTargetModules(t *testing.T) {
	for _, x := range []struct {
		folder        string
		targets, want []string
	}{
		{"../../finetune/testdata/bert", []string{encoder.AllLinear}, []string{"intermediate.dense", "key", "output.dense", "query", "value"}},
		{"../../finetune/testdata/bert", []string{"query", "dense"}, []string{"intermediate.dense", "output.dense", "query"}},
		{"../../finetune/testdata/bert", []string{"attention.output.dense"}, []string{"attention.output.dense"}},
		{"qwen3", []string{encoder.AllLinear}, []string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}},
		{"qwen3", []string{"layers.1.self_attn.k_proj"}, []string{"1.self_attn.k_proj"}},
		{"nomicbert-old", []string{"q_proj", "v_proj"}, []string{"q_proj", "v_proj"}},
	} {
		c, err := encoder.LoadConfig(filepath.Join("testdata", x.folder))
		check(t, err)
		check(t, c.SetLoRA(encoder.LoRA{Rank: 2, Alpha: 2, Targets: x.targets}))
		if got := c.AdapterConfig().Targets; !slices.Equal(got, x.want) {
			t.Errorf("%s, %q: %q, want %q", x.folder, x.targets, got, x.want)
		}
	}
}
