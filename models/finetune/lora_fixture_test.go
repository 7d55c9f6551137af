package finetune_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

// loraFixtures are those of training with peft's adapters; see scripts/fixtures/make_losses.py for the files of their folders.
func loraFixtures(t *testing.T) (out []fixture) {
	t.Helper()
	paths, err := filepath.Glob("testdata/lora/*/losses.json")
	check(t, err)
	if len(paths) < 6 {
		t.Fatalf("%d fixtures", len(paths))
	}
	for i, path := range paths {
		f := readFixture(t, path)
		f.name, f.number = filepath.Base(filepath.Dir(path)), i
		out = append(out, f)
	}
	return out
}

// loraTrainer is a trainer with what it takes to compare it with PEFT.
type loraTrainer struct {
	*ortrain.Trainer
	f    fixture
	task finetune.Task
}

// loraTrainer makes a trainer whose adapters start with PEFT's.
func (f fixture) loraTrainer(t *testing.T, v variant) *loraTrainer {
	t.Helper()
	task, tr := f.trainer(t, v)
	x := &loraTrainer{tr, f, task}
	check(t, tr.Fill(func(l *flat.Layout, to []float32) error {
		if err := task.Fill(l, to); err != nil {
			return err
		}
		return x.each(hf.AdapterFile, func(name string, values []float32) error {
			p, err := l.View(to, name)
			copy(p, values)
			return err
		})
	}))
	return x
}

// each calls do for every trained tensor that a file of the fixture's folder has; the file has no others.
func (x *loraTrainer) each(file string, do func(name string, values []float32) error) error {
	c, err := encoder.LoadConfig(x.f.cfg.Model)
	if err != nil {
		return err
	}
	stored, err := safetensors.Open(filepath.Join("testdata/lora", x.f.name, file))
	if err != nil {
		return err
	}
	defer stored.Close()
	seen := 0
	for _, p := range x.Layout().TrainedParams() {
		for _, prefix := range []string{"base_model.model." + c.Prefix, "base_model.model.", ""} {
			t, ok := stored.Tensor(prefix + p.Name)
			if !ok {
				continue
			}
			seen++
			if !slices.Equal(t.Shape, p.Dims) {
				return fmt.Errorf("%s has shape %v, PEFT's %v", p.Name, p.Dims, t.Shape)
			}
			values, err := t.Float32()
			if err != nil {
				return err
			}
			if err := do(p.Name, values); err != nil {
				return err
			}
			break
		}
	}
	if seen != len(stored.Tensors) {
		return fmt.Errorf("%s: %d tensors, of which %d are trained", file, len(stored.Tensors), seen)
	}
	return nil
}

// compare holds every trained tensor against a file's, with a bound for a tensor with this largest element. overall is the largest of all.
func (x *loraTrainer) compare(t *testing.T, file string, values []float32, bound func(largest, overall float64) float64) {
	t.Helper()
	overall, seen := 0.0, 0
	check(t, x.each(file, func(_ string, want []float32) error {
		overall = max(overall, largest(want))
		seen++
		return nil
	}))
	if n := len(x.Layout().TrainedParams()); seen != n {
		t.Errorf("%s has %d tensors, %d are trained", file, seen, n)
	}
	check(t, x.each(file, func(name string, want []float32) error {
		got, err := x.Layout().View(values, name)
		if err != nil {
			return err
		}
		worst := 0.0
		for i, w := range want {
			worst = max(worst, math.Abs(float64(got[i]-w)))
		}
		if !(worst <= bound(largest(want), overall)) {
			t.Errorf("%s: %s differs by %.3g, largest element %.3g", file, name, worst, largest(want))
		}
		return nil
	}))
}

// For every kind, with PEFT's adapters: the loss and the gradient of everything trained equal PyTorch's, in every variant.
func TestLoRAGradients(t *testing.T) {
	for _, f := range loraFixtures(t) {
		f.sampled = true
		for _, v := range f.of(t, variants) {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				x := f.loraTrainer(t, v)
				loss, grads, err := x.Gradients(f.batch(t, x.task, -1)...)
				check(t, err)
				if math.Abs(loss-f.loss) > 1e-5*f.loss {
					t.Errorf("loss %.8g, PyTorch %.8g", loss, f.loss)
				}
				x.compare(t, "gradients.safetensors", grads, func(largest, overall float64) float64 { return 1e-4*largest + 1e-6*overall + 2e-7 })
				if loss := evalLoss(t, x.Trainer, f.batch(t, x.task, -1)); math.Abs(loss-f.loss) > 1e-5*f.loss {
					t.Errorf("eval graph: loss %.8g, PyTorch %.8g", loss, f.loss)
				}
			})
		}
	}
}

// Ten optimizer steps give PyTorch's losses, and at the end its adapters and head.
func TestLoRATenLosses(t *testing.T) {
	for _, f := range loraFixtures(t) {
		for _, v := range []variant{{groups: 2}, {groups: 1, chunkTokens: config.OneChunk, device: runtime.CPU}, {groups: 2, device: runtime.CUDA}} {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				f.tenLosses(t, f.loraTrainer(t, v))
			})
		}
	}
}

func (f fixture) tenLosses(t *testing.T, x *loraTrainer) {
	t.Helper()
	for step, want := range f.losses {
		s, err := x.Step(f.batch(t, x.task, step%len(f.rows)))
		check(t, err)
		if math.Abs(s.Loss-want) > 1e-4*want+1e-6 {
			t.Errorf("step %d: loss %.7g, PyTorch %.7g", step, s.Loss, want)
		}
	}
	values, err := x.Parameters()
	check(t, err)
	x.compare(t, "trained.safetensors", values, func(_, _ float64) float64 { return 1e-5 })
}

// Where the model is an adapter's folder, its adapters are trained further: ten steps from PEFT's give PEFT's losses, adapters and head.
// Of the settings only lora_rank is needed.
func TestAdapterTrainedFurtherEqualsPEFT(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	for _, f := range loraFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			dir, err := resolve.Resolver{}.Model(t.Context(), filepath.Join("testdata/lora", f.name))
			check(t, err)
			f.cfg.Model, f.cfg.LoraAlpha, f.cfg.LoraTargets, f.cfg.UseRSLora = dir, 0, nil, false
			task, tr := f.trainer(t, variant{groups: 2})
			f.tenLosses(t, &loraTrainer{tr, f, task})
		})
	}
}
