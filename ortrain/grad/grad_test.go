package grad_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// tensor describes a float input of a test case.
type tensor struct {
	shape  onnx.Shape // as the graph knows it, with named dimensions
	sizes  []int64    // when the graph runs
	lo, hi float64    // elements are drawn from [lo, hi)
	round  bool       // round elements to whole numbers, so that some are equal
}

// uniform describes a tensor whose elements are drawn from [lo, hi). A dimension is an int or "name=3".
func uniform(lo, hi float64, dims ...any) tensor {
	t := tensor{lo: lo, hi: hi}
	for i, d := range dims {
		switch d := d.(type) {
		case int:
			t.shape, t.sizes = append(t.shape, onnx.FixedDim(int64(d))), append(t.sizes, int64(d))
		case string: // a size known only when the graph runs
			name, size, _ := strings.Cut(d, "=")
			var n int64
			fmt.Sscan(size, &n)
			t.shape, t.sizes = append(t.shape, onnx.NamedDim(name)), append(t.sizes, n)
		default:
			panic(fmt.Sprintf("dimension %d is %T, want int or string", i, d))
		}
	}
	return t
}

// aroundZero describes a tensor whose elements are drawn from [-1.5, 1.5).
func aroundZero(dims ...any) tensor { return uniform(-1.5, 1.5, dims...) }

type values = []*onnx.Value

// gradCase is one expression of float inputs whose gradient is compared with central finite differences.
type gradCase struct {
	name    string
	inputs  []tensor
	ints    map[string][]int64 // 1-D int64 inputs by name
	f       func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value
	float32 bool // run in float32, since ONNX Runtime's CPU provider has no float64 kernel
}

func unary(name string, t tensor, f func(*onnx.Graph, *onnx.Value) *onnx.Value) gradCase {
	return gradCase{name: name, inputs: []tensor{t}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		return f(g, x[0])
	}}
}

func binary(name string, a, b tensor, f func(*onnx.Graph, *onnx.Value, *onnx.Value) *onnx.Value) gradCase {
	return gradCase{name: name, inputs: []tensor{a, b}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		return f(g, x[0], x[1])
	}}
}

var cases = append(append([]gradCase{
	unary("Neg", aroundZero(3, 4), (*onnx.Graph).Neg),
	unary("Exp", aroundZero(3, 4), (*onnx.Graph).Exp),
	unary("Log", uniform(0.5, 2, 3, 4), (*onnx.Graph).Log),
	unary("Sqrt", uniform(0.5, 2, 3, 4), (*onnx.Graph).Sqrt),
	unary("Abs", uniform(0.2, 2, 3, 4), (*onnx.Graph).Abs),
	unary("Abs of negatives", uniform(-2, -0.2, 3, 4), (*onnx.Graph).Abs),
	unary("Reciprocal", uniform(0.5, 2, 3, 4), (*onnx.Graph).Reciprocal),
	inFloat32(unary("Erf", aroundZero("n=3", 4), (*onnx.Graph).Erf)),
	unary("Tanh", aroundZero("n=3", 4), (*onnx.Graph).Tanh),
	unary("Sigmoid", aroundZero(3, 4), (*onnx.Graph).Sigmoid),
	unary("Relu", aroundZero(5, 7), (*onnx.Graph).Relu),
	inFloat32(unary("Gelu", uniform(-3, 3, "n=5", 7), (*onnx.Graph).Gelu)),
	unary("Identity", aroundZero(2), (*onnx.Graph).Identity),
	unary("Clip", aroundZero(6, 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Clip(x, g.Scalar(x, -0.5), g.Scalar(x, 0.75))
	}),
	unary("Clip below", aroundZero(6, 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Clip(x, g.Scalar(x, -0.25), nil)
	}),
	unary("Clip above", aroundZero(6, 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Clip(x, nil, g.Scalar(x, 0.25))
	}),
	inFloat32(unary("Cast", aroundZero(3, 2), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		y := g.Cast(x, onnx.Float64)
		return g.Cast(g.Mul(y, y), onnx.Float32)
	})),
	unary("Pow by a constant", uniform(0.5, 2, 3, 4), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Pow(x, g.Scalar(x, 2.5))
	}),
	unary("Softmax", aroundZero("n=3", 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Softmax(x, -1) }),
	unary("Softmax along the middle", aroundZero(2, 4, 3), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Softmax(x, 1) }),
	unary("Softmax of one column", aroundZero(4, 1), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Softmax(x, 1) }),
	unary("LogSoftmax", aroundZero("n=3", "m=5"), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.LogSoftmax(x, -1) }),
	{name: "LayerNormalization", inputs: []tensor{aroundZero("n=4", 6), aroundZero(6), aroundZero(6)}, f: layerNorm},
	{name: "LayerNormalization of three dimensions", inputs: []tensor{aroundZero("b=2", 3, 5), aroundZero(5), aroundZero(5)}, f: layerNorm},
	{name: "LayerNormalization of one row", inputs: []tensor{aroundZero(1, 7), aroundZero(7), aroundZero(7)}, f: layerNorm},
	{name: "Where", inputs: []tensor{aroundZero(3, 4), aroundZero(1, 4)}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		return g.Where(g.Greater(x[0], g.Scalar(x[0], 0.1)), x[0], x[1])
	}},
	{name: "a value used many times", inputs: []tensor{aroundZero(3, 3)}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		return g.Add(g.Mul(x[0], x[0]), g.Sub(g.Tanh(x[0]), x[0]))
	}},
	{name: "recomputed values", inputs: []tensor{aroundZero("n=3", 4), aroundZero(4, 4)}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		s := grad.Recompute(g, g.MatMul(x[0], x[1]))
		e := grad.Recompute(g, g.Softmax(s, -1))
		return g.Mul(e, g.Tanh(s))
	}},
}, binaryCases...), movementCases...)

// inFloat32 makes a case run in float32 instead of float64.
func inFloat32(c gradCase) gradCase {
	c.float32 = true
	return c
}

func layerNorm(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
	return g.LayerNormalization(x[0], x[1], x[2], 1e-5)
}

func TestGradientsMatchFiniteDifferences(t *testing.T) {
	requireLibrary(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { checkCase(t, c) })
	}
}

func requireLibrary(t *testing.T) {
	t.Helper()
	if err := runtime.Load(""); err != nil {
		t.Fatalf("%v", err)
	}
}

// checkCase builds loss = Σ w·f(x) with fixed random weights w. It compares every element of every gradient with the central
// finite difference (loss(x + step) - loss(x - step)) / (2·step).
func checkCase(t *testing.T, c gradCase) {
	dtype, step, tol := onnx.Float64, 1e-6, 2e-6
	if c.float32 {
		dtype, step, tol = onnx.Float32, 1e-2, 4e-3
	}
	g := onnx.NewGraph("case")
	var x values
	for i, in := range c.inputs {
		x = append(x, g.Input(fmt.Sprintf("x%d", i), dtype, in.shape...))
	}
	ints := map[string]*onnx.Value{}
	for name, data := range c.ints {
		ints[name] = g.Input(name, onnx.Int64, onnx.FixedDim(int64(len(data))))
	}
	y := c.f(g, x, ints)
	if y.Rank() == 0 {
		y = g.ReshapeTo(y, 1)
	}
	w := g.Input("w", dtype, y.Shape...)
	loss := g.ReduceSum(g.Mul(y, w), false)
	grads, err := grad.Gradients(g, loss, x)
	if err != nil {
		t.Fatal(err)
	}
	g.Output("loss", loss)
	g.Output("y", y)
	for i, d := range grads {
		if d == nil {
			t.Fatalf("no gradient for x%d", i)
		}
		g.Output(fmt.Sprintf("dx%d", i), d)
	}
	r := newRunner(t, g, c, dtype)
	base := r.run(t)
	for i := range c.inputs {
		got := base.grads[i]
		for j := range r.x[i] {
			x := r.x[i][j]
			r.x[i][j] = x + step
			up := r.run(t).loss
			r.x[i][j] = x - step
			down := r.run(t).loss
			r.x[i][j] = x
			want := (up - down) / (2 * step)
			if diff := math.Abs(got[j] - want); diff > tol*math.Max(1, math.Abs(want)) || math.IsNaN(diff) {
				t.Fatalf("d loss/d x%d[%d] = %g, finite differences give %g", i, j, got[j], want)
			}
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
