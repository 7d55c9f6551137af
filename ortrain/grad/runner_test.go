package grad_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// runner runs the graph of a case. Inputs and results are float64 here, even if the graph computes in float32.
type runner struct {
	session *runtime.Session
	c       gradCase
	dtype   onnx.DType
	x       [][]float64
	w       []float64
	wDims   []int64
}

type result struct {
	loss  float64
	grads [][]float64
}

func newRunner(t *testing.T, g *onnx.Graph, c gradCase, dtype onnx.DType) *runner {
	t.Helper()
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1, Training: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := &runner{session: s, c: c, dtype: dtype}
	rng := rand.New(rand.NewPCG(1, uint64(len(c.name))))
	sizes := map[string]int64{}
	for _, in := range c.inputs {
		data := make([]float64, onnx.Elements(in.sizes))
		for i := range data {
			data[i] = in.lo + (in.hi-in.lo)*rng.Float64()
			if in.round {
				data[i] = math.Round(data[i])
			}
		}
		r.x = append(r.x, data)
		for i, d := range in.shape {
			if !d.Fixed() {
				sizes[d.Name] = in.sizes[i]
			}
		}
	}
	for _, v := range g.Inputs {
		if v.Name != "w" {
			continue
		}
		for _, d := range v.Shape {
			r.wDims = append(r.wDims, dimSize(t, d, sizes))
		}
	}
	r.w = make([]float64, onnx.Elements(r.wDims))
	for i := range r.w {
		r.w[i] = rng.Float64()*2 - 1
	}
	return r
}

// dimSize returns the size of a dimension: a number, a name of sizes, or a product or a sum of them.
func dimSize(t *testing.T, d onnx.Dim, sizes map[string]int64) int64 {
	if d.Fixed() {
		return d.Size
	}
	if n, ok := sizes[d.Name]; ok {
		return n
	}
	name, op := strings.Trim(d.Name, "()"), "*"
	if strings.Contains(name, "+") {
		op = "+"
	}
	total := int64(0)
	for i, part := range strings.Split(name, op) {
		n, ok := sizes[part]
		if !ok {
			if _, err := fmt.Sscan(part, &n); err != nil {
				t.Fatalf("dimension %q has no size", d.Name)
			}
		}
		switch {
		case i == 0:
			total = n
		case op == "+":
			total += n
		default:
			total *= n
		}
	}
	return total
}

func (r *runner) run(t *testing.T) result {
	t.Helper()
	if r.dtype == onnx.Float32 {
		return runAs[float32](t, r)
	}
	return runAs[float64](t, r)
}

func runAs[T float32 | float64](t *testing.T, r *runner) result {
	t.Helper()
	b, err := r.session.NewBinding()
	check(t, err)
	defer b.Close()
	bind := func(name string, data []float64, dims []int64) {
		if len(dims) == 0 {
			dims = []int64{1}
		}
		x, err := runtime.NewTensor(convert[T](data), dims...)
		check(t, err)
		t.Cleanup(func() { x.Close() })
		check(t, b.Input(name, x))
	}
	out := func(name string, dims []int64) []T {
		data := make([]T, onnx.Elements(dims))
		x, err := runtime.NewTensor(data, dims...)
		check(t, err)
		t.Cleanup(func() { x.Close() })
		check(t, b.Output(name, x))
		return data
	}
	for i, in := range r.c.inputs {
		bind(fmt.Sprintf("x%d", i), r.x[i], in.sizes)
	}
	for name, data := range r.c.ints {
		check(t, b.Ints(name, data, int64(len(data))))
	}
	bind("w", r.w, r.wDims)
	loss, err := runtime.NewScalar[T]()
	check(t, err)
	defer loss.Close()
	check(t, b.Output("loss", &loss.Tensor))
	y := out("y", r.wDims)
	var grads [][]T
	for i, in := range r.c.inputs {
		grads = append(grads, out(fmt.Sprintf("dx%d", i), in.sizes))
	}
	check(t, b.Run())
	// The loss is summed here in float64, because a float32 sum is too coarse for finite differences.
	res := result{}
	for i, v := range y {
		res.loss += float64(v) * r.w[i]
	}
	if d := math.Abs(res.loss - float64(loss.Value())); d > 1e-4*(1+math.Abs(res.loss)) {
		t.Fatalf("the graph's loss is %g, want %g", loss.Value(), res.loss)
	}
	for _, d := range grads {
		wide := make([]float64, len(d))
		for i, v := range d {
			wide[i] = float64(v)
		}
		res.grads = append(res.grads, wide)
	}
	return res
}

func convert[T float32 | float64](x []float64) []T {
	out := make([]T, len(x))
	for i, v := range x {
		out[i] = T(v)
	}
	return out
}
