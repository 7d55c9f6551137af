package encoder_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain/flat"
)

// peftAdapter is what scripts/fixtures/make_lora.py wrote with peft: an adapter, its base, and the hidden states of rows.
type peftAdapter struct {
	dir, base string // folders
	lora      encoder.LoRA
	want      hidden
	rows      []encoder.Row
}

// peftAdapters are the adapters of encoders that training can make: of one rank for all modules, with names for targets.
func peftAdapters(t *testing.T) (out []peftAdapter) {
	t.Helper()
	paths, err := filepath.Glob("testdata/lora/*/hidden.json")
	check(t, err)
	for _, path := range paths {
		a := peftAdapter{dir: filepath.Dir(path)}
		var c struct {
			Base    string          `json:"base_model_name_or_path"`
			Rank    int64           `json:"r"`
			Alpha   float64         `json:"lora_alpha"`
			RSLoRA  bool            `json:"use_rslora"`
			Targets json.RawMessage `json:"target_modules"`
			Layers  []int           `json:"layers_to_transform"`
			Ranks   map[string]int  `json:"rank_pattern"`
		}
		readJSON(t, filepath.Join(a.dir, "adapter_config.json"), &c)
		readJSON(t, path, &a.want)
		var targets []string
		if json.Unmarshal(c.Targets, &targets) != nil || c.Layers != nil || len(c.Ranks) > 0 {
			continue // a regular expression, some layers, or several ranks
		}
		targets = slices.DeleteFunc(targets, func(s string) bool { return strings.HasPrefix(s, "pooler") }) // hidden states do not pass it
		a.base = filepath.Join(a.dir, c.Base)
		a.lora = encoder.LoRA{Rank: c.Rank, Alpha: c.Alpha, RSLoRA: c.RSLoRA, Targets: targets}
		for _, ids := range a.want.Rows {
			a.rows = append(a.rows, encoder.Row{IDs: ids})
		}
		out = append(out, a)
	}
	if len(out) < 15 {
		t.Fatalf("%d adapters", len(out))
	}
	return out
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	check(t, json.Unmarshal(b, to))
}

// With PEFT's adapters, the hidden states' sum and the gradient of every A and B equal PEFT's, in one attention group and in several, with
// layers and attention kept and made again.
func TestAdapterGradientsEqualPEFT(t *testing.T) {
	yes, no := true, false
	for _, a := range peftAdapters(t) {
		for _, s := range []encoder.Shape{
			{Rows: 5, MaxLength: 16, Groups: 1, Recompute: &no},
			{Rows: 5, MaxLength: 16, Groups: 3, Recompute: &yes, Layers: true},
		} {
			t.Run(fmt.Sprintf("%s, %d groups", filepath.Base(a.dir), s.Groups), func(t *testing.T) {
				c, err := encoder.LoadConfig(a.base)
				check(t, err)
				c.SetDropout(0)
				check(t, c.SetLoRA(a.lora))
				tr := trainerOf(t, c, s)
				check(t, tr.Fill(func(l *flat.Layout, to []float32) error {
					return errorsJoin(c.ReadWeights(a.base, l, to), a.fill(l, to))
				}))
				sum, k := 0.0, 0
				for _, h := range a.want.Hidden {
					for _, x := range h {
						sum, k = sum+float64(factor(k))*x, k+1
					}
				}
				loss, grads, err := tr.Gradients(fixtureBatch(c, a.rows, s.Groups))
				check(t, err)
				if math.Abs(loss-sum) > 1e-4*math.Max(1, math.Abs(sum)) {
					t.Errorf("loss %g, PEFT's %g", loss, sum)
				}
				a.compare(t, tr.Layout(), grads)
			})
		}
	}
}

// each calls f with every tensor of an adapter among the parameters, and PEFT's numbers for it in a file of the folder.
func (a peftAdapter) each(file string, l *flat.Layout, values []float32, f func(name string, values, peft []float32)) error {
	stored, err := safetensors.Open(filepath.Join(a.dir, file))
	if err != nil {
		return err
	}
	defer stored.Close()
	trained := l.TrainedParams()
	for _, p := range trained {
		to, err := l.View(values, p.Name)
		if err != nil {
			return err
		}
		x, err := stored.Float32("base_model.model." + p.Name)
		if err != nil {
			return err
		}
		if len(x) != len(to) {
			return fmt.Errorf("%s has %d elements, PEFT's %d", p.Name, len(to), len(x))
		}
		f(p.Name, to, x)
	}
	n := len(slices.DeleteFunc(stored.Tensors, func(x safetensors.Tensor) bool { return strings.Contains(x.Name, ".pooler.") }))
	if len(trained) != n {
		return fmt.Errorf("%s has %d tensors, %d are trained", file, n, len(trained))
	}
	return nil
}

// fill sets the parameters of the adapter.
func (a peftAdapter) fill(l *flat.Layout, values []float32) error {
	return a.each("adapter_model.safetensors", l, values, func(_ string, values, peft []float32) { copy(values, peft) })
}

// compare holds every gradient against PEFT's, by the tensor's largest element.
func (a peftAdapter) compare(t *testing.T, l *flat.Layout, grads []float32) {
	t.Helper()
	largest := 0.0
	check(t, a.each("gradients.safetensors", l, grads, func(_ string, _, peft []float32) {
		for _, x := range peft {
			largest = max(largest, math.Abs(float64(x)))
		}
	}))
	check(t, a.each("gradients.safetensors", l, grads, func(name string, got, peft []float32) {
		scale, far := 0.0, 0.0
		for i, x := range peft {
			scale, far = max(scale, math.Abs(float64(x))), max(far, math.Abs(float64(x-got[i])))
		}
		if !(far <= max(1e-4*scale, 1e-6*largest)) {
			t.Errorf("%s: gradients differ by %g, the largest is %g", name, far, scale)
		}
	}))
}
