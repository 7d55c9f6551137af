package finetune_test

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
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/finetune"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

var newTask = map[modelcard.Kind]finetune.NewTask{
	modelcard.Embedding: embedding.NewTask, modelcard.ColBERT: colbert.NewTask, modelcard.Reranker: reranker.NewTask,
}

// fixture holds what scripts/fixtures/make_losses.py computed with PyTorch from the same rows and settings.
type fixture struct {
	name   string
	number int
	cfg    config.Train
	rows   []data.Row
	loss   float64
	losses []float64
	// sampled says that the fixture is tested in few variants: an earlier one of the family has the same folder and kind, so that only
	// its loss is new, or the family is small.
	sampled bool
}

// families are the architectures whose fixtures bear their names and have every loss again. smallFamilies have a fixture of an embedding
// model and one of a reranker.
var (
	families      = []string{"modernbert", "qwen3"}
	smallFamilies = []string{"eurobert", "gemma3", "gte", "llama", "nomicbert"}
)

// of are the variants that the fixture is tested in: those that its architecture has, and for a sampled one two of
// them, or one where the family is small.
func (f fixture) of(t *testing.T, variants []variant) (out []variant) {
	t.Helper()
	enc, err := encoder.LoadConfig(f.cfg.Model)
	check(t, err)
	enc.SetDropout(0)
	for _, v := range variants {
		if enc.SetFusedAttention(v.fused) == nil {
			out = append(out, v)
		}
	}
	family, _, _ := strings.Cut(f.name, "-")
	if n := len(out); n > 1 && slices.Contains(smallFamilies, family) {
		return out[f.number%n:][:1]
	}
	if n := len(out); f.sampled && n > 2 {
		return []variant{out[f.number%n], out[(f.number+n/2)%n]}
	}
	return out
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fixtures(t *testing.T) []fixture {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	check(t, err)
	if len(paths) < 20 {
		t.Fatalf("%d fixtures", len(paths))
	}
	var out []fixture
	seen := map[string]bool{}
	for i, path := range paths {
		f := readFixture(t, path)
		f.name, f.number = strings.TrimSuffix(filepath.Base(path), ".json"), i
		family, _, _ := strings.Cut(f.name, "-")
		key := fmt.Sprint(f.cfg.Model, f.cfg.Kind)
		f.sampled, seen[key] = slices.Contains(families, family) && seen[key] || slices.Contains(smallFamilies, family), true
		out = append(out, f)
	}
	return out
}

func readFixture(t *testing.T, path string) fixture {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	var x struct {
		Config json.RawMessage
		Rows   []data.Row
		Loss   float64
		Losses []float64
	}
	check(t, json.Unmarshal(b, &x))
	var kind struct{ Kind modelcard.Kind }
	check(t, json.Unmarshal(x.Config, &kind))
	f := fixture{cfg: config.DefaultTrain(kind.Kind), rows: x.Rows, loss: x.Loss, losses: x.Losses}
	check(t, json.Unmarshal(x.Config, &f.cfg))
	f.cfg.Dropout, f.cfg.Threads = 0, 2
	return f
}

// trainer makes a trainer of the fixture's model with the settings that PyTorch had.
func (f fixture) trainer(t *testing.T, v variant) (finetune.Task, *ortrain.Trainer) {
	t.Helper()
	task, tr := f.open(t, v, v.session(t), "")
	t.Cleanup(func() { check(t, tr.Close()) })
	return task, tr
}

// build makes the graphs of a variant.
func (f fixture) build(t *testing.T, v variant) (finetune.Task, *artifact.Set) {
	t.Helper()
	cfg := f.cfg
	cfg.AttentionGroups, cfg.ChunkTokens, cfg.GradientCheckpointing = v.groups, v.chunkTokens, v.checkpointing
	cfg.MixedPrecision, cfg.FusedAttention = v.precision, v.fused
	if v.device == runtime.CUDA {
		cfg.Provider = v.device
	}
	task, err := newTask[cfg.Kind](cfg)
	check(t, err)
	t.Cleanup(func() { task.Close() })
	set, err := artifact.Build(task.Model(), cfg.AdamW())
	check(t, err)
	return task, set
}

func (f fixture) open(t *testing.T, v variant, session runtime.Options, profile string) (finetune.Task, *ortrain.Trainer) {
	t.Helper()
	task, set := f.build(t, v)
	scores := 40 // some queries at a time
	if v.chunkTokens == 5 {
		scores = 1 // one query at a time
	}
	tr, err := ortrain.NewTrainer(set, ortrain.Config{
		Schedule: optim.Schedule{Kind: "cosine", Peak: f.cfg.LR, Warmup: 2, Total: len(f.losses)}, AdamW: f.cfg.AdamW(), MaxGradNorm: 1,
		Session: session, Profile: profile, ScoresPerBlock: scores,
	})
	check(t, err)
	check(t, tr.Fill(task.Fill))
	return task, tr
}

// batch collates all examples of the rows except number without; -1 means all.
func (f fixture) batch(t *testing.T, task finetune.Task, without int) []*ortrain.Batch {
	t.Helper()
	var examples []data.Example
	for i, r := range f.rows {
		n, err := task.Examples(r)
		check(t, err)
		for item := range n {
			if i != without {
				examples = append(examples, data.Example{Row: r, IndexInRow: item, Number: i})
			}
		}
	}
	b, err := task.Collate(data.WholeBatch(0, examples))
	check(t, err)
	return b
}

// variant is a way to compute a batch. All variants must give the same result.
type variant struct {
	groups, chunkTokens int
	checkpointing       bool
	precision           string // mixed_precision
	fused               bool   // attention
	device              string // the provider whose memory holds everything; empty: the host's memory, on the CPU
}

// variants have attention groups, chunks (also of fewer tokens than the longest text, and one that keeps its activations),
// recomputed layers, and device memory.
var variants = []variant{
	{1, 0, false, "no", false, ""}, {3, 0, false, "no", false, ""}, {2, 5, false, "no", false, ""}, {1, 40, true, "no", false, ""}, {2, 0, true, "no", false, ""},
	{2, 0, false, "no", false, runtime.CPU}, {1, 5, true, "no", false, runtime.CPU}, {2, 0, false, "no", false, runtime.CUDA}, {1, 5, true, "no", false, runtime.CUDA},
	{2, 0, false, "no", true, runtime.CUDA}, {1, 5, true, "no", true, runtime.CUDA},
	{2, config.OneChunk, false, "no", false, ""}, {1, config.OneChunk, true, "no", false, runtime.CPU}, {2, config.OneChunk, false, "no", false, runtime.CUDA},
}

// session returns the options of the variant's sessions.
func (v variant) session(t *testing.T) runtime.Options {
	o := runtime.Options{Threads: 2, Provider: v.device}
	if v.device == "" {
		return o
	}
	if v.device == runtime.CUDA {
		runtimetest.NeedCUDA(t)
	}
	return openDevice(t, o)
}

// openDevice opens the memory of the options' provider.
func openDevice(t *testing.T, o runtime.Options) runtime.Options {
	t.Helper()
	d, err := runtime.OpenDevice(o)
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	o.Device = d
	return o
}

// For every kind and loss, the loss and every gradient equal PyTorch's, in two runs of a session and in every variant. The
// loss without dropout does too.
func TestGradients(t *testing.T) {
	for _, f := range fixtures(t) {
		for _, v := range f.of(t, variants) {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				want, err := safetensors.Open(filepath.Join("testdata", f.name+".safetensors"))
				check(t, err)
				defer want.Close()
				task, tr := f.trainer(t, v)
				b := f.batch(t, task, -1)
				if pieces := max(len(b), len(b[0].Chunks)); v.chunkTokens == 5 && pieces < 4 {
					t.Fatalf("%d pieces", pieces)
				}
				for range 2 {
					loss, grads, err := tr.Gradients(b...)
					check(t, err)
					if math.Abs(loss-f.loss) > 1e-5*f.loss {
						t.Errorf("loss %.8g, PyTorch %.8g", loss, f.loss)
					}
					compareGradients(t, f, tr.Layout(), grads, want)
				}
				if loss := evalLoss(t, tr, b); math.Abs(loss-f.loss) > 1e-5*f.loss {
					t.Errorf("eval graph: loss %.8g, PyTorch %.8g", loss, f.loss)
				}
			})
		}
	}
}

// evalLoss returns the mean loss over a batch's rows.
func evalLoss(t *testing.T, tr *ortrain.Trainer, batches []*ortrain.Batch) float64 {
	t.Helper()
	sum, rows := 0.0, 0
	for _, b := range batches {
		loss, err := tr.EvalLoss(b)
		check(t, err)
		sum, rows = sum+loss*float64(b.Rows), rows+b.Rows
	}
	return sum / float64(rows)
}

// Loss and gradients of a batch in chunks equal those of the whole batch to 1e-5 of the largest gradient.
func TestChunksEqualThePlainBatch(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.sampled {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			task, plain := f.trainer(t, variant{groups: 1})
			wantLoss, want, err := plain.Gradients(f.batch(t, task, -1)...)
			check(t, err)
			task, chunked := f.trainer(t, variant{groups: 1, chunkTokens: 16})
			loss, grads, err := chunked.Gradients(f.batch(t, task, -1)...)
			check(t, err)
			if math.Abs(loss-wantLoss) > 1e-5*wantLoss {
				t.Errorf("loss %.8g, of the plain batch %.8g", loss, wantLoss)
			}
			overall, plainOf := 0.0, map[string][]float32{}
			check(t, plain.Layout().Each(want, func(p flat.Param, values []float32) error {
				plainOf[p.Name] = values
				overall = max(overall, largest(values))
				return nil
			}))
			check(t, chunked.Layout().Each(grads, func(p flat.Param, got []float32) error {
				worst := 0.0
				for i, w := range plainOf[p.Name] {
					worst = max(worst, math.Abs(float64(got[i]-w)))
				}
				if !(worst <= 1e-5*overall) {
					t.Errorf("%s: differs by %.3g, largest element %.3g", p.Name, worst, largest(plainOf[p.Name]))
				}
				return nil
			}))
		})
	}
}

// largest returns the largest absolute value.
func largest(values []float32) float64 {
	out := 0.0
	for _, x := range values {
		out = max(out, math.Abs(float64(x)))
	}
	return out
}

// Both forward passes of a chunk must use the same dropout factors. Only then does the gradient equal the numerical derivative
// of the loss along a direction.
func TestChunksDropTheSame(t *testing.T) {
	for _, f := range fixtures(t) {
		if !slices.Contains([]string{
			"infonce-hard", "contrastive", "listwise", "modernbert-infonce", "modernbert-contrastive", "modernbert-listwise",
			"qwen3-infonce", "qwen3-contrastive", "qwen3-listwise-causal",
		}, f.name) {
			continue
		}
		testChunksDropTheSame(t, f, variant{groups: 1, chunkTokens: 12, checkpointing: true})
		testChunksDropTheSame(t, f, variant{groups: 1, chunkTokens: config.OneChunk})
	}
}

func testChunksDropTheSame(t *testing.T, f fixture, v variant) {
	t.Run(fmt.Sprintf("%s/%d tokens", f.name, v.chunkTokens), func(t *testing.T) {
		f.cfg.Dropout = 0.3
		task, tr := f.trainer(t, v)
		b := f.batch(t, task, -1)
		_, grads, err := tr.Gradients(b...)
		check(t, err)
		along := append([]float32{}, grads...)
		now, err := tr.Parameters()
		check(t, err)
		start := append([]float32{}, now...)
		norm := 0.0
		for _, g := range along {
			norm += float64(g) * float64(g)
		}
		at := func(step float64) float64 {
			check(t, tr.Fill(func(_ *flat.Layout, parameters []float32) error {
				for i := range start {
					parameters[i] = start[i] + float32(step/math.Sqrt(norm))*along[i]
				}
				return nil
			}))
			loss, _, err := tr.Gradients(b...)
			check(t, err)
			return loss
		}
		const step = 1e-3
		if got, want := (at(step)-at(-step))/(2*step), math.Sqrt(norm); math.Abs(got-want) > 0.02*want {
			t.Errorf("the loss rises by %g along the gradient, whose norm is %g", got, want)
		}
		if plain := evalLoss(t, tr, b); math.Abs(plain-at(0)) < 1e-4*plain {
			t.Errorf("nothing was dropped: the loss is %g", plain)
		}
	})
}

// compareGradients compares each tensor's largest difference with its own largest element. A gradient that is zero in exact
// arithmetic (a key's bias) is compared with the largest element of all tensors.
func compareGradients(t *testing.T, f fixture, l *flat.Layout, grads []float32, want *safetensors.File) {
	t.Helper()
	enc, err := encoder.LoadConfig(f.cfg.Model)
	check(t, err)
	overall := 0.0
	for _, g := range grads {
		overall = max(overall, math.Abs(float64(g)))
	}
	seen := map[string]bool{}
	check(t, l.Each(grads, func(p flat.Param, got []float32) error {
		at := 0
		for _, name := range enc.NewNaming().Tensors(p.Name) {
			for _, prefix := range []string{enc.Prefix, ""} {
				if _, ok := want.Tensor(prefix + name); ok {
					name = prefix + name
					break
				}
			}
			w, err := want.Float32(name)
			if err != nil {
				return err
			}
			seen[name] = true
			worst, largest := 0.0, 0.0
			for j := range w {
				worst = max(worst, math.Abs(float64(got[at+j]-w[j])))
				largest = max(largest, math.Abs(float64(w[j])))
			}
			if bound := 1e-4*largest + 1e-6*overall + 2e-7; !(worst <= bound) {
				t.Errorf("%s: differs by %.3g, largest element %.3g", name, worst, largest)
			}
			at += len(w)
		}
		return nil
	}))
	if len(seen) != len(want.Tensors) {
		t.Errorf("%d tensors were compared, PyTorch has %d", len(seen), len(want.Tensors))
	}
}

// Ten optimizer steps on batches of other rows give PyTorch's losses.
func TestTenLosses(t *testing.T) {
	for _, f := range fixtures(t) {
		for _, device := range []string{"", runtime.CPU, runtime.CUDA} {
			t.Run(f.name+"/"+device, func(t *testing.T) {
				task, tr := f.trainer(t, variant{groups: 2, device: device})
				for step, want := range f.losses {
					s, err := tr.Step(f.batch(t, task, step%len(f.rows)))
					check(t, err)
					if math.Abs(s.Loss-want) > 1e-4*want+1e-6 {
						t.Errorf("step %d: loss %.7g, PyTorch %.7g", step, s.Loss, want)
					}
				}
			})
		}
	}
}

// With 16-bit matrix products the ten losses stay near PyTorch's in fp32: within 2 % in fp16, in bf16 as near as on the CPU, see
// TestTenLossesInBF16. A step that overflows is done again with the next loss scale. The CPU provider computes float16 in float32 and
// rounds; it has no bfloat16.
func TestMixedPrecision(t *testing.T) {
	for _, f := range fixtures(t) {
		for _, v := range f.of(t, []variant{
			{2, 0, false, "fp16", false, ""}, {1, 5, true, "fp16", false, ""}, {2, 0, false, "fp16", false, runtime.CUDA},
			{2, 0, false, "fp16", true, runtime.CUDA}, {2, 0, false, "bf16", false, runtime.CUDA},
		}) {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				task, tr := f.trainer(t, v)
				f.compareLosses(t, task, tr, v.precision)
			})
		}
	}
	for _, f := range loraFixtures(t) {
		if f.name != "modernbert-bce" && f.name != "bert-bce" {
			continue
		}
		for _, v := range []variant{{groups: 2, precision: "fp16"}, {groups: 2, precision: "fp16", device: runtime.CUDA}, {groups: 2, precision: "bf16", device: runtime.CUDA}} {
			t.Run(fmt.Sprintf("lora %s/%+v", f.name, v), func(t *testing.T) {
				x := f.loraTrainer(t, v)
				f.compareLosses(t, x.task, x.Trainer, v.precision)
			})
		}
	}
}

// bf16Bound is how far a loss in bf16 may be from the one that PyTorch has in fp32: 5 %, and 1 % of the first loss, since some models of few
// parameters learn their rows to a loss near zero.
func (f fixture) bf16Bound(want float64) float64 { return 0.05*want + 0.01*f.losses[0] }

// compareLosses does ten steps in 16 bits.
func (f fixture) compareLosses(t *testing.T, task finetune.Task, tr *ortrain.Trainer, precision string) {
	t.Helper()
	skipped := 0
	for step, want := range f.losses {
		b := f.batch(t, task, step%len(f.rows))
		s, err := tr.Step(b)
		for err == nil && s.Skipped > skipped {
			skipped = s.Skipped
			s, err = tr.Step(b)
		}
		check(t, err)
		bound := 0.02*want + 1e-6
		if precision == "bf16" {
			bound = f.bf16Bound(want)
		}
		if math.Abs(s.Loss-want) > bound {
			t.Errorf("step %d: loss %.7g, PyTorch in fp32 %.7g", step, s.Loss, want)
		}
	}
}

// A resumed run gives exactly the bits of a run that was never stopped, also with a loss scale after an overflow, and with
// device memory.
func TestResume(t *testing.T) {
	for _, f := range slices.Concat(fixtures(t), loraFixtures(t)) {
		variants := map[string][]variant{
			"stella":   {{groups: 2, precision: "fp16"}, {groups: 2, precision: "no", device: runtime.CPU}}, // its first step overflows in float16
			"bert-bce": {{groups: 2, precision: "no", device: runtime.CPU}},                                 // with frozen parameters
		}
		for _, v := range variants[f.name] {
			t.Run(fmt.Sprintf("%s %+v", f.name, v), func(t *testing.T) {
				task, whole := f.trainer(t, v)
				_, stopped := f.trainer(t, v)
				_, resumed := f.trainer(t, v)
				steps := func(tr *ortrain.Trainer, from, to int) (last ortrain.Step) {
					for i := from; i < to; i++ {
						var err error
						last, err = tr.Step(f.batch(t, task, i%len(f.rows)))
						check(t, err)
						last.Times = ortrain.Times{} // differ
					}
					return last
				}
				want := steps(whole, 0, 6)
				if v.precision == "fp16" && want.Skipped == 0 {
					t.Error("no step overflowed")
				}
				steps(stopped, 0, 3)
				c := ortrain.Checkpoints{Dir: t.TempDir(), Keep: 1}
				check(t, c.Save(stopped, nil))
				check(t, c.Load(resumed, func(json.RawMessage) error { return nil }, func(err error) { t.Error(err) }))
				if got := steps(resumed, 3, 6); got != want {
					t.Errorf("the last step is %+v, want %+v", got, want)
				}
				a, err := whole.Parameters()
				check(t, err)
				b, err := resumed.Parameters()
				check(t, err)
				if !slices.Equal(a, b) {
					t.Error("the parameters differ")
				}
			})
		}
	}
}
