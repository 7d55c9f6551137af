package embedding

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/contrast"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/optim"
	"rag-retrieval-go/ortrain/runtime"
)

const tiny = "testdata/tiny"

// fixture is what scripts/fixtures/make_embedding.py wrote with PyTorch.
type fixture struct {
	dir         string
	Queries     [][]int64
	Passages    [][]int64
	Temperature float64
	LR          float64
	Warmup      int
	Steps       int
	MaxGradNorm float64 `json:"max_grad_norm"`
	WeightDecay float64 `json:"weight_decay"`
	Poolings    map[Pooling]struct {
		Loss   float64
		Losses []float64
	}
}

// loadFixture reads the committed fixture, or the one that RAG_RETRIEVAL_FIXTURE names.
func loadFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{dir: tiny}
	if dir := os.Getenv("RAG_RETRIEVAL_FIXTURE"); dir != "" {
		f.dir = dir
	}
	b, err := os.ReadFile(filepath.Join(f.dir, "fixture.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &f))
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// model opens the fixture's model with a pooling and without dropout.
func (f fixture) model(t *testing.T, p Pooling) *Model {
	t.Helper()
	m, err := Open(f.dir)
	check(t, err)
	t.Cleanup(func() { m.Close() })
	m.Config.Pooling = p
	m.Encoder.HiddenDropout, m.Encoder.AttentionDropout = 0, 0
	return m
}

// batch lays out the rows of the given queries with their positives, and all hard negatives.
func (f fixture) batch(m *Model, groups int, queries ...int) *ortrain.Batch {
	var rows, positives []encoder.Row
	var q, p []string
	var positive []int
	for n, i := range queries {
		rows = append(rows, encoder.Row{IDs: f.Queries[i]})
		positives = append(positives, encoder.Row{IDs: f.Passages[i]})
		q, p, positive = append(q, fmt.Sprint("query ", i)), append(p, fmt.Sprint(f.Passages[i])), append(positive, n)
	}
	rows = append(rows, positives...)
	for _, ids := range f.Passages[len(f.Queries):] {
		rows, p = append(rows, encoder.Row{IDs: ids}), append(p, fmt.Sprint(ids))
	}
	b := ortrain.NewBatch()
	b.Rows = len(q)
	bindParts(b, f.task(m, groups).pack(b, rows), len(q))
	contrast.Denominator{MaskDuplicates: true}.Candidates(q, p, positive, nil).Bind(b, 0, len(q))
	return b
}

// task is the fine-tuning of m with in-batch negatives.
func (f fixture) task(m *Model, groups int) *Task {
	c := config.DefaultTrain(modelcard.Embedding)
	c.Temperature, c.AttentionGroups = f.Temperature, groups
	return &Task{m: m, c: c}
}

func (f fixture) shape(groups int) encoder.Shape {
	recompute := groups%2 == 0
	s := encoder.Shape{Rows: len(f.Queries) + len(f.Passages), Groups: groups, Recompute: &recompute}
	for _, ids := range append(append([][]int64{}, f.Queries...), f.Passages...) {
		s.MaxLength = max(s.MaxLength, len(ids))
	}
	return s
}

func (f fixture) trainer(t *testing.T, m *Model, groups int) *ortrain.Trainer {
	t.Helper()
	adamw := optim.DefaultAdamW
	adamw.WeightDecay = f.WeightDecay
	set, err := artifact.Build(f.task(m, groups).model(f.shape(groups)), adamw)
	check(t, err)
	tr, err := ortrain.NewTrainer(set, ortrain.Config{
		Schedule: optim.Schedule{Kind: "cosine", Peak: f.LR, Warmup: f.Warmup, Total: f.Steps},
		AdamW:    adamw, MaxGradNorm: f.MaxGradNorm, Seed: 7, Session: runtime.Options{Threads: 2},
	})
	check(t, err)
	t.Cleanup(func() { tr.Close() })
	check(t, tr.Fill(func(l *flat.Layout, parameters []float32) error { return m.Encoder.ReadWeights(f.dir, l, parameters) }))
	return tr
}

// everyPooling runs a test with both poolings and several numbers of attention groups, more than there are lengths
// among them; with the even ones attention is recomputed.
func everyPooling(t *testing.T, f func(t *testing.T, p Pooling, groups int)) {
	for _, p := range []Pooling{Mean, CLS} {
		for _, groups := range []int{1, 2, 4, 15} {
			t.Run(fmt.Sprintf("%s/%d groups", p, groups), func(t *testing.T) { f(t, p, groups) })
		}
	}
}

// Every gradient equals PyTorch's, tensor by tensor, and again on a second run of the same session.
func TestFixtureGradients(t *testing.T) {
	f := loadFixture(t)
	want, err := safetensors.Open(filepath.Join(f.dir, "gradients.safetensors"))
	check(t, err)
	defer want.Close()
	everyPooling(t, func(t *testing.T, p Pooling, groups int) {
		m := f.model(t, p)
		tr := f.trainer(t, m, groups)
		b := f.batch(m, groups, 0, 1, 2, 3, 4)
		for run := 0; run < 2; run++ {
			loss, grads, err := tr.Gradients(b)
			check(t, err)
			if w := f.Poolings[p].Loss; math.Abs(loss-w) > 1e-5*w {
				t.Errorf("loss %.8g, PyTorch %.8g", loss, w)
			}
			compareGradients(t, m.Encoder, tr.Layout(), grads, want, string(p)+"/")
		}
		if loss, err := tr.EvalLoss(b); err != nil || math.Abs(loss-f.Poolings[p].Loss) > 1e-5*f.Poolings[p].Loss {
			t.Errorf("eval graph: loss %.8g, %v, PyTorch %.8g", loss, err, f.Poolings[p].Loss)
		}
	})
}

// compareGradients checks each tensor's largest difference against its own largest element; a gradient that is zero
// in exact arithmetic (a key's bias) is held against an absolute bound.
func compareGradients(t *testing.T, c encoder.Config, l *flat.Layout, grads []float32, want *safetensors.File, prefix string) {
	t.Helper()
	seen := 0
	check(t, l.Each(grads, func(p flat.Param, got []float32) error {
		for i, name := range c.NewNaming().Tensors(p.Name) {
			w, err := want.Float32(prefix + name)
			if err != nil {
				return err
			}
			seen++
			part := got[i*len(w) : (i+1)*len(w)]
			worst, largest := 0.0, 0.0
			for j := range w {
				worst = math.Max(worst, math.Abs(float64(part[j]-w[j])))
				largest = math.Max(largest, math.Abs(float64(w[j])))
			}
			if bound := 1e-4*largest + 2e-6; worst > bound || math.IsNaN(worst) {
				t.Errorf("%s: differs by %.3g, largest element %.3g", name, worst, largest)
			}
		}
		return nil
	}))
	if seen < 30 {
		t.Errorf("only %d tensors were compared", seen)
	}
}

// Ten optimizer steps on batches of other rows give PyTorch's losses.
func TestFixtureTenLosses(t *testing.T) {
	f := loadFixture(t)
	everyPooling(t, func(t *testing.T, p Pooling, groups int) {
		m := f.model(t, p)
		tr := f.trainer(t, m, groups)
		for step, want := range f.Poolings[p].Losses {
			var queries []int
			for i := range f.Queries {
				if i != step%len(f.Queries) {
					queries = append(queries, i)
				}
			}
			s, err := tr.Step([]*ortrain.Batch{f.batch(m, groups, queries...)})
			check(t, err)
			if math.Abs(s.Loss-want) > 1e-4*want+1e-6 { // 1e-6: the last bits of a log-softmax of scores near 1/T
				t.Errorf("step %d: loss %.7g, PyTorch %.7g", step, s.Loss, want)
			}
		}
	})
}

// N micro-batches of unequal size give the gradient of the row-weighted mean of their losses.
func TestGradientAccumulation(t *testing.T) {
	f := loadFixture(t)
	m := f.model(t, Mean)
	const groups = 2
	tr := f.trainer(t, m, groups)
	batches := []*ortrain.Batch{f.batch(m, groups, 0, 1, 2), f.batch(m, groups, 3, 4)}
	want := make([]float64, tr.Layout().Total)
	loss := 0.0
	for _, b := range batches {
		l, grads, err := tr.Gradients(b)
		check(t, err)
		share := float64(b.Rows) / 5
		loss += share * l
		for i, g := range grads {
			want[i] += share * float64(g)
		}
	}
	norm := 0.0
	for _, g := range want {
		norm += g * g
	}
	norm = math.Sqrt(norm)
	for range 2 { // the second step must not see the first one's sum; its learning rate is not zero
		s, err := tr.Step(batches)
		check(t, err)
		if s.Step == 1 && (math.Abs(s.Loss-loss) > 1e-6 || math.Abs(s.GradNorm-norm) > 1e-5*norm) {
			t.Errorf("loss %g and norm %g, want %g and %g", s.Loss, s.GradNorm, loss, norm)
		}
		if s.Step == 2 && math.Abs(s.GradNorm-norm) > 1e-5*norm { // step 1 had learning rate zero
			t.Errorf("second step: norm %g, want %g", s.GradNorm, norm)
		}
	}
}
