package dropout

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

const rate = 0.1

// site makes a graph that drops elements of x [rows, 64] at the sites a and b, and outputs the gradient of the sum of a.
func site(t *testing.T, bound int64) (*Plan, []byte) {
	t.Helper()
	g := onnx.NewGraph("sites")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(64))
	d := NewGraph(g, map[string]int64{"rows": bound})
	a, b := d.Apply("a", x, rate), d.Apply("b", x, rate)
	loss := g.ReduceSum(a, false)
	dx, err := grad.Gradients(g, loss, []*onnx.Value{x})
	if err != nil {
		t.Fatal(err)
	}
	g.Output("a", a)
	g.Output("b", b)
	g.Output("dx", dx[0])
	model, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return d.Plan(), model
}

// runSites returns the outputs of both sites and the gradient for an x of ones, so that outputs equal the dropout factors.
func runSites(t *testing.T, p *Plan, model []byte, seed uint64, step, stream int, rows int64) (a, b, dx []float32) {
	t.Helper()
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1, Training: true})
	check(t, err)
	defer s.Close()
	bind, err := s.NewBinding()
	check(t, err)
	defer bind.Close()
	x := make([]float32, rows*64)
	for i := range x {
		x[i] = 1
	}
	table := make([]float32, p.TableSize)
	p.FillTable(table, seed, rate)
	views, err := p.Views(seed, step, stream, map[string]int64{"rows": rows})
	check(t, err)
	check(t, bind.Floats("x", x, rows, 64))
	bindViews(t, bind, table, views)
	outs := map[string][]float32{}
	for _, name := range []string{"a", "b", "dx"} {
		outs[name] = make([]float32, len(x))
		v, err := runtime.NewTensor(outs[name], rows, 64)
		check(t, err)
		defer v.Close()
		check(t, bind.Output(name, v))
	}
	check(t, bind.Run())
	return outs["a"], outs["b"], outs["dx"]
}

func bindViews(t *testing.T, b *runtime.Binding, table []float32, views []View) {
	t.Helper()
	for _, v := range views {
		check(t, b.Floats(v.Input, table[v.Offset:v.Offset+onnx.Elements(v.Dims)], v.Dims...))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// correlation returns the correlation of two masks, as values of 0 and 1.
func correlation(a, b []float32) float64 {
	n := float64(len(a))
	var sa, sb, sab float64
	for i := range a {
		x, y := min(a[i], 1), min(b[i], 1)
		sa, sb, sab = sa+float64(x), sb+float64(y), sab+float64(x*y)
	}
	va, vb := sa/n*(1-sa/n), sb/n*(1-sb/n)
	return (sab/n - sa/n*sb/n) / math.Sqrt(va*vb)
}

func TestRateScaleAndCorrelations(t *testing.T) {
	p, model := site(t, 4000)
	const rows = 3999
	a, b, dx := runSites(t, p, model, 5, 3, 0, rows)
	dropped := 0
	for i, v := range a {
		switch {
		case v == 0:
			dropped++
		case math.Abs(float64(v)-1/(1-rate)) > 1e-6:
			t.Fatalf("element %d is %g", i, v)
		}
	}
	if got := float64(dropped) / float64(len(a)); math.Abs(got-rate) > 0.003 {
		t.Errorf("rate %g, want %g", got, rate)
	}
	if !reflect.DeepEqual(a, dx) {
		t.Error("the backward pass used another mask")
	}
	again, _, _ := runSites(t, p, model, 5, 3, 0, rows)
	if !reflect.DeepEqual(a, again) {
		t.Error("the same seed and step gave another mask")
	}
	step, _, _ := runSites(t, p, model, 5, 4, 0, rows)
	stream, _, _ := runSites(t, p, model, 5, 3, 1, rows)
	seed, _, _ := runSites(t, p, model, 6, 3, 0, rows)
	limit := 5 / math.Sqrt(float64(len(a)))
	for name, pair := range map[string][2][]float32{
		"neighbours": {a[:len(a)-1], a[1:]}, "neighbouring rows": {a[:len(a)-64], a[64:]}, "sites": {a, b},
		"steps": {a, step}, "micro-batches": {a, stream}, "seeds": {a, seed},
	} {
		if c := correlation(pair[0], pair[1]); math.Abs(c) > limit {
			t.Errorf("correlation of %s: %g, want at most %g", name, c, limit)
		}
	}
}

// Views end within the table for every size of batch, and sites larger than the table are cut into pieces.
func TestPieces(t *testing.T) {
	g := onnx.NewGraph("big")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(1024))
	d := NewGraph(g, map[string]int64{"rows": 65_000})
	d.Apply("big", x, rate)
	check(t, g.Err())
	p := d.Plan()
	if p.TableSize != maxTable || p.Sites[0].Pieces != 3 {
		t.Fatalf("table of %d, %d pieces", p.TableSize, p.Sites[0].Pieces)
	}
	for _, rows := range []int64{0, 1, 2, 64_999, 65_000} {
		for step := 0; step < 50; step++ {
			views, err := p.Views(1, step, 0, map[string]int64{"rows": rows})
			check(t, err)
			total := int64(0)
			for _, v := range views {
				n := onnx.Elements(v.Dims)
				total += n
				if v.Offset < 0 || v.Offset+n > int64(p.TableSize) {
					t.Fatalf("%d rows: a piece of %d at %d runs past the table of %d", rows, n, v.Offset, p.TableSize)
				}
			}
			if total != rows*1024 {
				t.Fatalf("%d rows: pieces of %d factors in all", rows, total)
			}
		}
	}
	_, err := p.Views(1, 0, 0, map[string]int64{"rows": 100_000})
	if err == nil || !strings.Contains(err.Error(), "larger than the graph was built for") {
		t.Errorf("too large a batch: %v", err)
	}
}

// The mask of a site in pieces consists of its pieces, up to the last element.
func TestMaskInPieces(t *testing.T) {
	g := onnx.NewGraph("pieces")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(64))
	d := NewGraph(g, map[string]int64{"rows": 2*maxPiece/64 + 1}) // three pieces
	g.Output("y", d.Apply("a", x, rate))
	model, err := g.Bytes()
	check(t, err)
	p := d.Plan()
	p.TableSize = 1 << 16 // enough for the small batch below
	s, err := runtime.NewSession(model, runtime.Options{Threads: 1})
	check(t, err)
	defer s.Close()
	b, err := s.NewBinding()
	check(t, err)
	defer b.Close()
	const rows = 1001
	ones := make([]float32, rows*64)
	for i := range ones {
		ones[i] = 1
	}
	table := make([]float32, p.TableSize)
	p.FillTable(table, 1, rate)
	views, err := p.Views(1, 0, 0, map[string]int64{"rows": rows})
	check(t, err)
	check(t, b.Floats("x", ones, rows, 64))
	bindViews(t, b, table, views)
	got := make([]float32, len(ones))
	out, err := runtime.NewTensor(got, rows, 64)
	check(t, err)
	defer out.Close()
	check(t, b.Output("y", out))
	check(t, b.Run())
	var want []float32
	for _, v := range views {
		want = append(want, table[v.Offset:v.Offset+v.Dims[0]]...)
	}
	if len(views) != 3 {
		t.Fatalf("%d pieces", len(views))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the mask of %d elements is not its three pieces end to end", len(got))
	}
}
