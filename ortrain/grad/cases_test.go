package grad_test

import (
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

var binaryCases = []gradCase{
	binary("Add", aroundZero(3, 4), aroundZero(3, 4), (*onnx.Graph).Add),
	binary("Add a row", aroundZero("n=3", 4), aroundZero(4), (*onnx.Graph).Add),
	binary("Add a column", aroundZero(3, 4), aroundZero(3, 1), (*onnx.Graph).Add),
	binary("Add a scalar", aroundZero(3, 4), aroundZero(1), (*onnx.Graph).Add),
	binary("Add both broadcast", aroundZero(3, 1, 2), aroundZero(4, 1), (*onnx.Graph).Add),
	binary("Sub", aroundZero(3, 4), aroundZero(4), (*onnx.Graph).Sub),
	binary("Sub from a row", aroundZero(1, 4), aroundZero("n=3", 4), (*onnx.Graph).Sub),
	binary("Mul", aroundZero(3, 4), aroundZero(3, 4), (*onnx.Graph).Mul),
	binary("Mul with a middle of one", aroundZero(2, 3, 4), aroundZero(2, 1, 4), (*onnx.Graph).Mul),
	binary("Mul with one element", aroundZero(2, 3), aroundZero(1, 1), (*onnx.Graph).Mul),
	binary("Div", aroundZero(3, 4), uniform(0.5, 2, 3, 4), (*onnx.Graph).Div),
	binary("Div by a column", aroundZero("n=3", 4), uniform(0.5, 2, "n=3", 1), (*onnx.Graph).Div),
	binary("Div of a row", aroundZero(4), uniform(0.5, 2, 3, 4), (*onnx.Graph).Div),
	binary("Pow", uniform(0.5, 2, 3, 4), aroundZero(4), (*onnx.Graph).Pow),
	binary("MatMul", aroundZero(3, 4), aroundZero(4, 2), (*onnx.Graph).MatMul),
	binary("MatMul in batches", aroundZero("b=2", 3, 4), aroundZero("b=2", 4, 5), (*onnx.Graph).MatMul),
	binary("MatMul of a broadcast batch", aroundZero(2, 3, 3, 4), aroundZero(3, 4, 1), (*onnx.Graph).MatMul),
	binary("MatMul with a shared matrix", aroundZero(2, 3, 4), aroundZero(4, 5), (*onnx.Graph).MatMul),
	gemm("Gemm", aroundZero(3, 4), aroundZero(4, 2), aroundZero(2), onnx.GemmAttrs{}),
	gemm("Gemm transB with factors", aroundZero("n=3", 4), aroundZero(2, 4), aroundZero(2), onnx.GemmAttrs{Alpha: 0.5, Beta: 2, TransB: true}),
	gemm("Gemm transA", aroundZero(4, 3), aroundZero(4, 2), aroundZero(3, 2), onnx.GemmAttrs{TransA: true}),
	gemm("Gemm transA and transB", aroundZero(4, 3), aroundZero(2, 4), aroundZero(1, 2), onnx.GemmAttrs{Alpha: -1.5, TransA: true, TransB: true}),
	gemm("Gemm of one row", aroundZero(1, 4), aroundZero(4, 1), aroundZero(1), onnx.GemmAttrs{}),
	binary("Gemm without a bias", aroundZero(3, 4), aroundZero(4, 2), func(g *onnx.Graph, a, b *onnx.Value) *onnx.Value {
		return g.Gemm(a, b, nil, onnx.GemmAttrs{})
	}),
	fused("FusedMatMul", aroundZero(3, 4), aroundZero(4, 2), onnx.FusedMatMulAttrs{}),
	fused("FusedMatMul transB", aroundZero("b=2", 3, "l=5", 4), aroundZero("b=2", 3, "k=2", 4), onnx.FusedMatMulAttrs{Alpha: 0.3, TransB: true}),
	fused("FusedMatMul transA", aroundZero(2, 4, 3), aroundZero(2, 4, 5), onnx.FusedMatMulAttrs{Alpha: 2, TransA: true}),
	fused("FusedMatMul transA and transB", aroundZero(2, 4, 3), aroundZero(2, 5, 4), onnx.FusedMatMulAttrs{TransA: true, TransB: true}),
}

func gemm(name string, a, b, c tensor, attrs onnx.GemmAttrs) gradCase {
	return gradCase{name: name, inputs: []tensor{a, b, c}, f: func(g *onnx.Graph, x values, _ map[string]*onnx.Value) *onnx.Value {
		return g.Gemm(x[0], x[1], x[2], attrs)
	}}
}

func fused(name string, a, b tensor, attrs onnx.FusedMatMulAttrs) gradCase {
	return inFloat32(binary(name, a, b, func(g *onnx.Graph, x, y *onnx.Value) *onnx.Value { return g.FusedMatMul(x, y, attrs) }))
}

type reduction = func(g *onnx.Graph, x *onnx.Value, keep bool, axes ...int64) *onnx.Value

func reduce(name string, t tensor, f reduction, keep bool, axes ...int64) gradCase {
	return unary(name, t, func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return f(g, x, keep, axes...) })
}

// withTies rounds a case's first input, so that some of its elements are equal.
func withTies(c gradCase) gradCase {
	c.inputs[0].round = true
	return c
}

var movementCases = []gradCase{
	reduce("ReduceSum", aroundZero(3, 4), (*onnx.Graph).ReduceSum, false, 1),
	reduce("ReduceSum kept", aroundZero("n=3", 4, 2), (*onnx.Graph).ReduceSum, true, 0, 2),
	reduce("ReduceSum of everything", aroundZero(3, 4), (*onnx.Graph).ReduceSum, false),
	reduce("ReduceMean", aroundZero("n=3", "m=4"), (*onnx.Graph).ReduceMean, false, 0),
	reduce("ReduceMean of everything", aroundZero("n=3", "m=4", 2), (*onnx.Graph).ReduceMean, false),
	reduce("ReduceMean kept, axis -1", aroundZero(3, 4), (*onnx.Graph).ReduceMean, true, -1),
	reduce("ReduceMax", aroundZero(4, 7), (*onnx.Graph).ReduceMax, false, 1),
	reduce("ReduceMax kept", aroundZero(4, 3, 5), (*onnx.Graph).ReduceMax, true, 0, 2),
	reduce("ReduceLogSumExp", aroundZero("n=3", 4), (*onnx.Graph).ReduceLogSumExp, false, -1),
	reduce("ReduceLogSumExp kept", aroundZero(3, 4, 2), (*onnx.Graph).ReduceLogSumExp, true, 1),
	reduce("ReduceSumSquare", aroundZero("n=3", 4), (*onnx.Graph).ReduceSumSquare, false, 0),
	{name: "Gather with duplicates", inputs: []tensor{aroundZero("v=5", 3)}, ints: map[string][]int64{"i": {4, 0, 4, 4, 2}}, f: gather(0)},
	{name: "Gather one row", inputs: []tensor{aroundZero(5, 3)}, ints: map[string][]int64{"i": {1}}, f: gather(0)},
	{name: "Gather from a vector", inputs: []tensor{aroundZero(6)}, ints: map[string][]int64{"i": {5, 5, 0}}, f: gather(0)},
	{name: "Gather columns", inputs: []tensor{aroundZero(2, 4)}, ints: map[string][]int64{"i": {3, 1, 3}}, f: gather(1)},
	{name: "Gather along the middle", inputs: []tensor{aroundZero(2, 4, 3)}, ints: map[string][]int64{"i": {3, 3}}, f: gather(-2)},
	unary("DifferentiateAs", aroundZero(3, 4), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		x = g.Mul(x, x)
		before := len(g.Nodes)
		e := g.Exp(g.Add(x, x))
		reference := g.Div(g.Sub(e, g.Scalar(e, 1)), g.Add(e, g.Scalar(e, 1)))
		grad.RecomputeAll(g, g.Nodes[before:])
		return grad.DifferentiateAs(g, g.Tanh(x), reference)
	}),
	// Three rows in two parts. The last row of the first part is padding: a copy of row 0, whose gradient is zero because
	// the case multiplies it by zero.
	{name: "GatherParts", inputs: []tensor{aroundZero(3, 2)},
		ints: map[string][]int64{"i": {2, 0, 0}, "j": {1}, "inv": {1, 3, 0}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			parts := grad.GatherParts(g, x[0], values{i["i"], i["j"]}, i["inv"])
			real := g.Cast(g.Const(onnx.Ints([]int64{1, 1, 0}, 3, 1)), x[0].DType)
			return g.Concat(0, g.Mul(g.Tanh(parts[0]), real), parts[1])
		}},
	{name: "GatherParts with an unused part", inputs: []tensor{aroundZero(3, 2)},
		ints: map[string][]int64{"i": {2, 0}, "j": {1}, "inv": {1, 2, 0}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			return g.Tanh(grad.GatherParts(g, x[0], values{i["i"], i["j"]}, i["inv"])[0])
		}},
	{name: "GatherParts with the first part unused", inputs: []tensor{aroundZero(3, 2)},
		ints: map[string][]int64{"i": {2, 0}, "j": {1}, "inv": {1, 2, 0}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			return g.Tanh(grad.GatherParts(g, x[0], values{i["i"], i["j"]}, i["inv"])[1])
		}},
	// Rows 1 and 2 are in both parts. Row 0 is in one part only, so its second position is the row of zeros.
	{name: "GatherParts of rows in several places", inputs: []tensor{aroundZero(3, 2)},
		ints: map[string][]int64{"i": {2, 1}, "j": {1, 0, 2}, "inv": {3, 5, 1, 2, 0, 4}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			parts := grad.GatherParts(g, x[0], values{i["i"], i["j"]}, g.ReshapeTo(i["inv"], 3, 2))
			return g.Concat(0, g.Tanh(parts[0]), g.Mul(parts[1], parts[1]))
		}},
	{name: "JoinParts", inputs: []tensor{aroundZero(3, 2), aroundZero(2, 2)},
		ints: map[string][]int64{"i": {4, 0, 1}, "a": {1, 2, 3}, "b": {3, 0}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			return g.Tanh(grad.JoinParts(g, values{g.Mul(x[0], x[0]), x[1]}, i["i"], values{i["a"], i["b"]}))
		}},
	{name: "JoinParts of one part", inputs: []tensor{aroundZero(4, 2)},
		ints: map[string][]int64{"i": {0, 1, 3}, "a": {0, 1, 3, 2}}, f: func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
			return grad.JoinParts(g, values{x[0]}, i["i"], values{i["a"]})
		}},
	unary("Reshape", aroundZero("n=3", 4), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ReshapeTo(x, -1, 2, 2) }),
	unary("Reshape by copying", aroundZero("n=2", "m=3", 4), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.ReshapeTo(x, 0, 0, 2, 2) }),
	unary("Transpose", aroundZero(2, "n=3", 4), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Transpose(x, 2, 0, 1) }),
	unary("Squeeze", aroundZero(2, 1, 3, 1), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Squeeze(x, 1, -1) }),
	unary("Unsqueeze", aroundZero("n=2", 3), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Unsqueeze(x, 0, 2) }),
	unary("Expand", aroundZero(3, 1), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Expand(x, g.IntVector(2, 3, 4)) }),
	unary("Split", aroundZero(3, 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		p := g.Split(x, 1, 2, 2, 1)
		return g.Mul(p[0], p[1])
	}),
	unary("Split with an unused part", aroundZero(5, 2), func(g *onnx.Graph, x *onnx.Value) *onnx.Value { return g.Tanh(g.Split(x, 0, 2, 3)[1]) }),
	unary("Slice", aroundZero(4, 5), func(g *onnx.Graph, x *onnx.Value) *onnx.Value {
		return g.Slice(x, g.IntVector(1, -4), g.IntVector(3, -1), g.IntVector(0, 1))
	}),
	binary("Concat", aroundZero(2, 3), aroundZero(2, 4), func(g *onnx.Graph, a, b *onnx.Value) *onnx.Value { return g.Concat(1, a, b) }),
	binary("Concat of unknown lengths", aroundZero("n=2", 3), aroundZero("m=4", 3), func(g *onnx.Graph, a, b *onnx.Value) *onnx.Value {
		return g.Tanh(g.Concat(0, g.Mul(a, a), b))
	}),
}

func gather(axis int64) func(*onnx.Graph, values, map[string]*onnx.Value) *onnx.Value {
	return func(g *onnx.Graph, x values, i map[string]*onnx.Value) *onnx.Value {
		return g.Gather(x[0], i["i"], axis)
	}
}

// Equal maxima share the gradient. Finite differences cannot test this, because max is not differentiable there.
func TestReduceMaxSharesTheGradientAmongTies(t *testing.T) {
	requireLibrary(t)
	c := withTies(reduce("ties", uniform(0, 2, 3, 8), (*onnx.Graph).ReduceMax, false, 1))
	g := onnx.NewGraph("ties")
	x := g.Input("x0", onnx.Float64, c.inputs[0].shape...)
	y := c.f(g, values{x}, nil)
	w := g.Input("w", onnx.Float64, y.Shape...)
	loss := g.ReduceSum(g.Mul(y, w), false)
	grads, err := grad.Gradients(g, loss, values{x})
	check(t, err)
	g.Output("loss", loss)
	g.Output("y", y)
	g.Output("dx0", grads[0])
	r := newRunner(t, g, c, onnx.Float64)
	got := r.run(t).grads[0]
	for row := 0; row < 3; row++ {
		data, count := r.x[0][row*8:row*8+8], 0.0
		top := data[0]
		for _, v := range data {
			top = max(top, v)
		}
		for _, v := range data {
			if v == top {
				count++
			}
		}
		if count < 2 {
			t.Fatalf("row %d has no ties", row)
		}
		for i, v := range data {
			want := 0.0
			if v == top {
				want = r.w[row] / count
			}
			if d := got[row*8+i] - want; d > 1e-12 || d < -1e-12 {
				t.Errorf("row %d element %d: %g, want %g", row, i, got[row*8+i], want)
			}
		}
	}
}

func TestOperatorWithoutRuleIsAnError(t *testing.T) {
	g := onnx.NewGraph("sign")
	x := g.Input("x", onnx.Float32, onnx.FixedDim(3))
	loss := g.ReduceSum(g.Sign(x), false)
	_, err := grad.Gradients(g, loss, values{x})
	if err == nil || !strings.Contains(err.Error(), "node Sign: operator Sign has no gradient rule") {
		t.Fatalf("error %v", err)
	}
}

func TestInputThatTheLossDoesNotReachHasNoGradient(t *testing.T) {
	g := onnx.NewGraph("unused")
	x, z := g.Input("x", onnx.Float32, onnx.FixedDim(3)), g.Input("z", onnx.Float32, onnx.FixedDim(3))
	grads, err := grad.Gradients(g, g.ReduceSum(x, false), values{x, z})
	check(t, err)
	if grads[0] == nil || grads[1] != nil {
		t.Fatalf("gradients %v", grads)
	}
}
