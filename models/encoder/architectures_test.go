package encoder_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hidden is what scripts/fixtures/make_architectures.py wrote with transformers: rows of token ids and each row's last
// hidden state, [tokens, hidden_size].
type hidden struct {
	Rows   [][]int64   `json:"rows"`
	Hidden [][]float64 `json:"hidden"`
}

// folders are the encoders of testdata.
func folders(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/hidden.json")
	check(t, err)
	for _, p := range paths {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	if len(names) < 6 {
		t.Fatalf("%d folders with hidden states: %v", len(names), names)
	}
	return names
}

func read(t *testing.T, name string) (c encoder.Config, want hidden, rows []encoder.Row) {
	t.Helper()
	dir := filepath.Join("testdata", name)
	c, err := encoder.LoadConfig(dir)
	check(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "hidden.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &want))
	for _, ids := range want.Rows {
		rows = append(rows, encoder.Row{IDs: ids})
	}
	return c, want, rows
}

// factor is C[k] of the fixtures' loss, the sum of C[k]·x[k] over all hidden states end to end.
func factor(k int) float32 { return float32(float64(k*7919%1009)/1009 - 0.5) }

// fixtureLoss is the encoder in training with that loss.
func fixtureLoss(c encoder.Config, s encoder.Shape) artifact.Model {
	return artifact.Model{
		Name: "fixture", Params: c.Params(), Bounds: c.Bounds(s),
		Encode: func(g *onnx.Graph, w func(string) *onnx.Value, drop *dropout.Graph) *onnx.Value {
			x := c.BuildPacked(g, w, s, drop, nil)
			return x
		},
		Loss: func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
			by := g.Input("factors", onnx.Float32, onnx.NamedDim(encoder.TokensDim), onnx.FixedDim(c.HiddenSize))
			return g.ReduceSum(g.Mul(x, by), false)
		},
	}
}

// Every architecture: hidden states, and the gradient of every parameter, equal transformers', in one attention group and
// in several, with layers and attention kept and made again, with long texts whole and cut into blocks where a layer has a
// window.
func TestArchitecturesEqualTransformers(t *testing.T) {
	yes, no := true, false
	for _, name := range folders(t) {
		for _, x := range []struct {
			encoder.Shape
			windowBlock int
		}{
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 1, Recompute: &no}, 0},
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 3, Recompute: &yes}, 0},
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 2, Recompute: &no, Layers: true}, 0},
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 1, Recompute: &no}, 1},
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 3, Recompute: &yes}, 3},
			{encoder.Shape{Rows: 5, MaxLength: 16, Groups: 6, Recompute: &no, Layers: true}, 4},
		} {
			s := x.Shape
			t.Run(fmt.Sprintf("%s, %d groups, layers recomputed %v, blocks of %d", name, s.Groups, s.Layers, x.windowBlock), func(t *testing.T) {
				c, want, rows := read(t, name)
				if c.WindowBlock = x.windowBlock; c.WindowBlock > 0 && c.Blocks.Windows == nil {
					t.Skip("no layer has a window")
				}
				set, err := artifact.Build(fixtureLoss(c, s), optim.DefaultAdamW)
				check(t, err)
				tr, err := ortrain.NewTrainer(set, ortrain.Config{
					Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1}, AdamW: optim.DefaultAdamW, Session: runtime.Options{Threads: 1},
				})
				check(t, err)
				defer tr.Close()
				check(t, tr.Fill(func(l *flat.Layout, to []float32) error { return c.ReadWeights(filepath.Join("testdata", name), l, to) }))
				b := ortrain.NewBatch()
				c.Pack(b, rows, s.Groups)
				b.Rows = 1
				var factors []float32
				sum := 0.0
				for _, h := range want.Hidden {
					for _, x := range h {
						f := factor(len(factors))
						factors, sum = append(factors, f), sum+float64(f)*x
					}
				}
				b.Float("factors", factors, b.Dims[encoder.TokensDim], c.HiddenSize)
				for range 2 {
					loss, grads, err := tr.Gradients(b)
					check(t, err)
					if math.Abs(loss-sum) > 2e-4*float64(len(rows)) {
						t.Errorf("loss %g, want %g", loss, sum)
					}
					compare(t, c, filepath.Join("testdata", name), tr.Layout(), grads)
				}
			})
		}
	}
}

// compare holds every tensor's gradient against the file's, by the tensor's largest element.
func compare(t *testing.T, c encoder.Config, dir string, l *flat.Layout, grads []float32) {
	t.Helper()
	want, err := hf.OpenFile(filepath.Join(dir, "gradients.safetensors"))
	check(t, err)
	defer want.Close()
	naming, err := c.Naming(want)
	check(t, err)
	buffer := make([]float32, l.Total)
	check(t, want.Fill(hf.Buffer{Layout: l, Data: buffer}, c.Params(), naming.Tensors, nil))
	largest := 0.0
	for _, x := range buffer {
		largest = max(largest, math.Abs(float64(x)))
	}
	check(t, l.Each(buffer, func(p flat.Param, expected []float32) error {
		got, err := l.View(grads, p.Name)
		if err != nil {
			return err
		}
		scale, far := 0.0, 0.0
		for i, x := range expected {
			scale, far = max(scale, math.Abs(float64(x))), max(far, math.Abs(float64(x-got[i])))
		}
		if !(far <= max(1e-4*scale, 1e-6*largest)) {
			t.Errorf("%s: gradients differ by %g, the largest is %g", p.Name, far, scale)
		}
		return nil
	}))
}

// states runs a graph on the rows and gives the hidden states end to end.
func states(t *testing.T, build func(g *onnx.Graph, w encoder.Weights) (x *onnx.Value), dir string, c encoder.Config, b *ortrain.Batch, dims ...int64) []float32 {
	t.Helper()
	layout, err := flat.NewLayout(c.Params())
	check(t, err)
	buffer := make([]float32, layout.Total)
	check(t, c.ReadWeights(dir, layout, buffer))
	g := onnx.NewGraph("states")
	g.Output("states", build(g, scoring.Constants(g, layout, buffer)))
	model, err := g.Bytes()
	check(t, err)
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1})
	check(t, err)
	defer s.Close()
	binding, err := s.NewBinding()
	check(t, err)
	defer binding.Close()
	check(t, b.Bind(binding))
	out := make([]float32, onnx.Elements(dims))
	check(t, binding.OutputFloats("states", out, dims...))
	check(t, binding.Run())
	return out
}

// Packed for scoring, and padded as other runtimes read the model: every hidden state is transformers'.
func TestHiddenStates(t *testing.T) {
	for _, name := range folders(t) {
		t.Run(name, func(t *testing.T) {
			c, want, rows := read(t, name)
			dir := filepath.Join("testdata", name)
			packed := ortrain.NewBatch()
			c.Pack(packed, rows, 1)
			got := states(t, func(g *onnx.Graph, w encoder.Weights) *onnx.Value {
				return c.Build(g, w, encoder.NewPacked(g, c, 1), encoder.Training{}, nil)
			}, dir, c, packed, packed.Dims[encoder.TokensDim], c.HiddenSize)
			at := 0
			for i, h := range want.Hidden {
				near(t, fmt.Sprintf("packed, row %d", i), got[at:at+len(h)], h)
				at += len(h)
			}

			const longest = 17
			padded := ortrain.NewBatch()
			ids, mask := make([]int64, longest*len(rows)), make([]int64, longest*len(rows))
			for i, r := range rows {
				for j, id := range r.IDs {
					ids[i*longest+j], mask[i*longest+j] = id, 1
				}
			}
			n := int64(len(rows))
			padded.Int("input_ids", ids, n, longest)
			padded.Int("attention_mask", mask, n, longest)
			if c.HasTypes() {
				padded.Int("token_type_ids", make([]int64, len(ids)), n, longest)
			}
			got = states(t, func(g *onnx.Graph, w encoder.Weights) *onnx.Value {
				batch := encoder.NewPadded(g, c)
				return batch.Unpack(c.Build(g, w, batch, encoder.Training{}, nil), c.HiddenSize)
			}, dir, c, padded, n, longest, c.HiddenSize)
			for i, h := range want.Hidden {
				at := i * longest * int(c.HiddenSize)
				near(t, fmt.Sprintf("padded, row %d", i), got[at:at+len(h)], h)
			}
		})
	}
}

// A token whose window holds nothing that it may attend to, such as ColBERT's query expansion far from the text, gets zeros
// from attention, as in transformers: packed, in blocks of any size, and padded.
func TestTokensThatSeeNothing(t *testing.T) {
	dir := filepath.Join("testdata", "modernbert")
	c, err := encoder.LoadConfig(dir)
	check(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "unattended.json"))
	check(t, err)
	var want struct {
		hidden
		Unattended []int `json:"unattended"`
	}
	check(t, json.Unmarshal(b, &want))
	var rows []encoder.Row
	for i, ids := range want.Rows {
		rows = append(rows, encoder.Row{IDs: ids, Unattended: want.Unattended[i]})
	}
	for _, x := range []struct{ groups, block int }{{1, 0}, {3, 0}, {1, 1}, {2, 3}} {
		c.WindowBlock = x.block
		packed := ortrain.NewBatch()
		c.Pack(packed, rows, x.groups)
		got := states(t, func(g *onnx.Graph, w encoder.Weights) *onnx.Value {
			return c.Build(g, w, encoder.NewPacked(g, c, x.groups), encoder.Training{}, nil)
		}, dir, c, packed, packed.Dims[encoder.TokensDim], c.HiddenSize)
		at := 0
		for i, h := range want.Hidden {
			near(t, fmt.Sprintf("%d groups, blocks of %d, row %d", x.groups, x.block, i), got[at:at+len(h)], h)
			at += len(h)
		}
	}
	for i, r := range rows { // each alone: other runtimes' padding differs from an expansion in nothing
		padded, n := ortrain.NewBatch(), int64(len(r.IDs))
		mask := make([]int64, n)
		for j := range int(n) - r.Unattended {
			mask[j] = 1
		}
		padded.Int("input_ids", r.IDs, 1, n)
		padded.Int("attention_mask", mask, 1, n)
		got := states(t, func(g *onnx.Graph, w encoder.Weights) *onnx.Value {
			batch := encoder.NewPadded(g, c)
			return batch.Unpack(c.Build(g, w, batch, encoder.Training{}, nil), c.HiddenSize)
		}, dir, c, padded, 1, n, c.HiddenSize)
		near(t, fmt.Sprintf("padded, row %d", i), got, want.Hidden[i])
	}
}

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i, x := range want {
		if d := math.Abs(float64(got[i]) - x); !(d <= 2e-5) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], x)
		}
	}
}

// What is written is what was read, under the checkpoint's own names.
func TestWeightsAreWrittenAsTheyWereRead(t *testing.T) {
	for _, name := range folders(t) {
		c, _, _ := read(t, name)
		dir := filepath.Join("testdata", name)
		layout, err := flat.NewLayout(c.Params())
		check(t, err)
		buffer := make([]float32, layout.Total)
		check(t, c.ReadWeights(dir, layout, buffer))
		path := filepath.Join(t.TempDir(), hf.SafetensorsFile)
		check(t, c.WriteWeights(path, dir, layout, buffer))
		was, err := safetensors.Open(filepath.Join(dir, hf.SafetensorsFile))
		check(t, err)
		is, err := safetensors.Open(path)
		check(t, err)
		if len(is.Tensors) != len(was.Tensors) {
			t.Errorf("%s: %d tensors, were %d", name, len(is.Tensors), len(was.Tensors))
		}
		for _, x := range was.Tensors {
			if y, ok := is.Tensor(x.Name); !ok || string(y.Data) != string(x.Data) {
				t.Errorf("%s: %s is another", name, x.Name)
			}
		}
		check(t, was.Close())
		check(t, is.Close())
	}
}
