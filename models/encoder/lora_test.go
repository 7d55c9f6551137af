package encoder_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

// trainerOf is a trainer of the fixtures' loss.
func trainerOf(t *testing.T, c encoder.Config, s encoder.Shape) *ortrain.Trainer {
	t.Helper()
	return trainerWith(t, c, s, runtime.Options{Threads: 1})
}

func trainerWith(t *testing.T, c encoder.Config, s encoder.Shape, o runtime.Options) *ortrain.Trainer {
	t.Helper()
	set, err := artifact.Build(fixtureLoss(c, s), optim.DefaultAdamW)
	check(t, err)
	tr, err := ortrain.NewTrainer(set, ortrain.Config{
		Schedule: optim.Schedule{Kind: "constant", Peak: 1e-5, Total: 1}, AdamW: optim.DefaultAdamW, Session: o,
	})
	check(t, err)
	t.Cleanup(func() { check(t, tr.Close()) })
	return tr
}

// fixtureBatch is the fixtures' rows with the factors of the loss.
func fixtureBatch(c encoder.Config, rows []encoder.Row, groups int) *ortrain.Batch {
	b := ortrain.NewBatch()
	c.Pack(b, rows, groups)
	b.Rows = 1
	factors := make([]float32, b.Dims[encoder.TokensDim]*c.HiddenSize)
	for k := range factors {
		factors[k] = factor(k)
	}
	b.Float("factors", factors, b.Dims[encoder.TokensDim], c.HiddenSize)
	return b
}

// oneOfEach are folders of different architectures.
func oneOfEach(t *testing.T) (out []string) {
	seen := map[string]bool{}
	for _, name := range folders(t) {
		if kind := modelType(t, name); !seen[kind] {
			seen[kind], out = true, append(out, name)
		}
	}
	return out
}

// Every architecture, with adapters on all linear layers and on some: the loss equals that of the merged weights W + scale·B·A, and
// so do the gradients: with G the gradient of a merged weight, that of B is scale·G·Aᵀ, that of A is scale·Bᵀ·G.
func TestAdaptersEqualMergedWeights(t *testing.T) {
	for _, name := range oneOfEach(t) {
		for k, targets := range [][]string{{encoder.AllLinear}, someTargets[modelType(t, name)]} {
			if targets == nil {
				continue
			}
			t.Run(fmt.Sprint(name, targets), func(t *testing.T) {
				s := encoder.Shape{Rows: 5, MaxLength: 16, Groups: 1 + k, Layers: k == 1}
				base, _, rows := read(t, name)
				c := base
				check(t, c.SetLoRA(encoder.LoRA{Rank: 3, Alpha: 5, Targets: targets, RSLoRA: k == 1, Seed: 7}))
				tr := trainerOf(t, c, s)
				check(t, tr.Fill(func(l *flat.Layout, to []float32) error {
					return errorsJoin(c.ReadWeights(filepath.Join("testdata", name), l, to), randomAdapters(l, to))
				}))
				values, err := tr.Parameters()
				check(t, err)
				l := tr.Layout()
				whole, merged, err := c.Merged(base.Params(), l, values)
				check(t, err)
				full := trainerOf(t, base, s)
				check(t, full.Fill(func(fl *flat.Layout, to []float32) error { copy(to, merged); return nil }))
				wantLoss, wantGrads, err := full.Gradients(fixtureBatch(base, rows, s.Groups))
				check(t, err)
				loss, grads, err := tr.Gradients(fixtureBatch(c, rows, s.Groups))
				check(t, err)
				if math.Abs(loss-wantLoss) > 1e-4*math.Max(1, math.Abs(wantLoss)) {
					t.Errorf("the loss is %g, that of merged weights %g", loss, wantLoss)
				}
				if int64(len(grads)) != l.Trained || l.Trained >= l.Total {
					t.Errorf("%d gradients, %d trained elements of %d", len(grads), l.Trained, l.Total)
				}
				checkAdapterGradients(t, c, l, values, grads, whole, wantGrads)
			})
		}
	}
}

// someTargets are modules that split layers which are joined here.
var someTargets = map[string][]string{
	"qwen3": {"q_proj", "v_proj"}, "qwen2": {"k_proj", "up_proj"}, "llama": {"self_attn.v_proj", "down_proj"}, "gemma3_text": {"gate_proj", "o_proj"},
	"gte": {"q_proj", "v_proj", "gate_proj"}, "nomic_bert": {"k_proj"}, "modernbert": {"Wqkv"}, "mistral": {"layers.0.self_attn.k_proj"},
}

func modelType(t *testing.T, name string) string {
	c, _, _ := read(t, name)
	return c.ModelType
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func randomAdapters(l *flat.Layout, values []float32) error {
	r := rand.New(rand.NewPCG(3, 4))
	return l.Each(values, func(p flat.Param, to []float32) error {
		if strings.Contains(p.Name, "lora_") {
			for i := range to {
				to[i] = float32(0.2 * r.NormFloat64())
			}
		}
		return nil
	})
}

// checkAdapterGradients compares the gradient of every adapter with what follows from those of the merged weights.
func checkAdapterGradients(t *testing.T, c encoder.Config, l *flat.Layout, values, grads []float32, whole *flat.Layout, of []float32) {
	t.Helper()
	seen, scale, rank := 0, c.LoRA.Scale(), int(c.LoRA.Rank)
	for module, g := range moduleGradients(t, c, whole, of) {
		if l.Dims(module+encoder.LoraA) == nil {
			continue
		}
		seen++
		a, err := l.View(values, module+encoder.LoraA)
		check(t, err)
		b, err := l.View(values, module+encoder.LoraB)
		check(t, err)
		in, out := len(a)/rank, len(b)/rank
		wantA, wantB := make([]float64, len(a)), make([]float64, len(b))
		for o := range out {
			for i := range in {
				for r := range rank {
					wantA[r*in+i] += scale * float64(b[o*rank+r]) * float64(g[o*in+i])
					wantB[o*rank+r] += scale * float64(a[r*in+i]) * float64(g[o*in+i])
				}
			}
		}
		for name, want := range map[string][]float64{module + encoder.LoraA: wantA, module + encoder.LoraB: wantB} {
			got, err := l.View(grads, name)
			check(t, err)
			largest, worst := 1e-3, 0.0
			for i := range want {
				largest, worst = max(largest, math.Abs(want[i])), max(worst, math.Abs(float64(got[i])-want[i]))
			}
			if !(worst <= 1e-4*largest) {
				t.Errorf("%s: gradients differ by %g, the largest is %g", name, worst, largest)
			}
		}
	}
	if n := len(l.TrainedParams()); 2*seen != n || seen == 0 {
		t.Errorf("%d modules with adapters were compared, %d tensors are trained", seen, n)
	}
}

// moduleGradients are the gradients of the weights of a checkpoint's modules.
func moduleGradients(t *testing.T, c encoder.Config, l *flat.Layout, grads []float32) map[string][]float32 {
	out := map[string][]float32{}
	check(t, l.Each(grads, func(p flat.Param, g []float32) error {
		names := c.NewNaming().Tensors(p.Name)
		for i, name := range names {
			share := len(g) / len(names)
			out[strings.TrimSuffix(name, ".weight")] = g[i*share : (i+1)*share]
		}
		return nil
	}))
	return out
}

// New adapters change nothing: B is zero. A has numbers that depend on the seed.
func TestNewAdaptersChangeNothing(t *testing.T) {
	c, _, _ := read(t, "qwen3")
	check(t, c.SetLoRA(encoder.LoRA{Rank: 2, Alpha: 4, Targets: []string{encoder.AllLinear}, Seed: 1}))
	other := c
	check(t, other.SetLoRA(encoder.LoRA{Rank: 2, Alpha: 4, Targets: []string{encoder.AllLinear}, Seed: 2}))
	for _, p := range c.Params() {
		x, y := make([]float32, p.Size()), make([]float32, p.Size())
		isAdapter := c.StartAdapter(p, x)
		other.StartAdapter(p, y)
		zero := !slices.ContainsFunc(x, func(v float32) bool { return v != 0 })
		if a := strings.HasSuffix(p.Name, encoder.LoraA); isAdapter == p.Frozen || zero == a || a == slices.Equal(x, y) {
			t.Errorf("%s: frozen %v, starts with zeros: %v, the same for another seed: %v", p.Name, p.Frozen, zero, slices.Equal(x, y))
		}
	}
}

// A target that is no module's name is refused with the names there are.
func TestUnknownTarget(t *testing.T) {
	c, _, _ := read(t, "qwen3")
	err := c.SetLoRA(encoder.LoRA{Rank: 2, Alpha: 4, Targets: []string{"q_proj", "query"}})
	if err == nil || !strings.Contains(err.Error(), `no linear layer of model_type qwen3 is called "query", want all-linear or some of: self_attn.q_proj, self_attn.k_proj`) {
		t.Error(err)
	}
}

// Frozen embeddings and layers have no gradients. The others have the same as without freezing.
func TestFreeze(t *testing.T) {
	for _, name := range oneOfEach(t) {
		parts := []encoder.Freeze{{Embeddings: true, Layers: 1}}
		if name == "qwen3" {
			parts = append(parts, encoder.Freeze{Embeddings: true}, encoder.Freeze{Layers: 1})
		}
		for _, f := range parts {
			s := encoder.Shape{Rows: 5, MaxLength: 16, Groups: 2}
			c, _, rows := read(t, name)
			dir := filepath.Join("testdata", name)
			full := trainerOf(t, c, s)
			check(t, full.Fill(func(l *flat.Layout, to []float32) error { return c.ReadWeights(dir, l, to) }))
			c.Freeze = f
			tr := trainerOf(t, c, s)
			check(t, tr.Fill(func(l *flat.Layout, to []float32) error { return c.ReadWeights(dir, l, to) }))
			wantLoss, want, err := full.Gradients(fixtureBatch(c, rows, s.Groups))
			check(t, err)
			loss, grads, err := tr.Gradients(fixtureBatch(c, rows, s.Groups))
			check(t, err)
			if loss != wantLoss {
				t.Errorf("%s %+v: the loss is %g, %g without freezing", name, f, loss, wantLoss)
			}
			for _, p := range tr.Layout().Params {
				parts := strings.Split(p.Name, ".")
				inLayer := slices.Index(parts, "0") >= 0
				inEmbeddings := !slices.ContainsFunc(parts, func(s string) bool { return s >= "0" && s <= "9" }) && !strings.Contains(p.Name, "norm.") || strings.HasPrefix(p.Name, "embeddings.")
				if wantFrozen := inLayer && f.Layers > 0 || inEmbeddings && f.Embeddings; p.Frozen != wantFrozen {
					t.Errorf("%s %+v: %s is frozen: %v", name, f, p.Name, p.Frozen)
				}
				if p.Frozen {
					continue
				}
				got, err := tr.Layout().View(grads, p.Name)
				check(t, err)
				w, err := full.Layout().View(want, p.Name)
				check(t, err)
				for i := range got {
					if math.Abs(float64(got[i]-w[i])) > 1e-5*math.Max(1, math.Abs(float64(w[i]))) {
						t.Errorf("%s %+v: %s: gradient %d is %g, want %g", name, f, p.Name, i, got[i], w[i])
						break
					}
				}
			}
		}
	}
}
