package runtime_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// layerOf runs a linear layer on rows of x, quantized or not.
func layerOf(t *testing.T, x, w, bias []float32, rows, in, out int64, int8 bool) []float32 {
	t.Helper()
	g := onnx.NewGraph("layer")
	v := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(in))
	g.Output("y", g.Gemm(v, g.Weight("w", onnx.Floats(w, out, in)), g.Weight("b", onnx.Floats(bias, out)), onnx.GemmAttrs{TransB: true}))
	if int8 {
		if n := g.QuantizeWeights(); n != 1 {
			t.Fatalf("%d layers were quantized, want 1", n)
		}
	}
	model, err := g.Bytes()
	check(t, err)
	s, err := runtime.NewSession(model, runtime.Options{Threads: 2})
	check(t, err)
	defer s.Close()
	b, err := s.NewBinding()
	check(t, err)
	defer b.Close()
	y := make([]float32, rows*out)
	check(t, b.Floats("x", x, rows, in))
	check(t, b.OutputFloats("y", y, rows, out))
	check(t, b.Run())
	return y
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An int8 layer equals its formula, is close to fp32 for rows of any size, and gives a row the same result in every batch.
func TestInt8Layer(t *testing.T) {
	const rows, in, out = 37, 130, 71
	r := rand.New(rand.NewPCG(1, 2))
	x, w, bias := make([]float32, rows*in), make([]float32, out*in), make([]float32, out)
	for i := range x {
		x[i] = float32(r.NormFloat64() * math.Pow(10, float64(i/in%7)-3)) // rows from 0.001 to 1,000
	}
	for i := range in {
		x[5*in+i] = 0 // a row of zeros
		w[9*in+i] = 0 // an output of zeros
	}
	x[11*in+3] = 300 // an outlier
	for i := range w {
		if i/in != 9 {
			w[i] = float32(r.NormFloat64() * 0.1)
		}
	}
	for i := range bias {
		bias[i] = float32(r.NormFloat64())
	}
	got := layerOf(t, x, w, bias, rows, in, out, true)
	exact := layerOf(t, x, w, bias, rows, in, out, false)
	for row := range rows {
		want, size := formula(x[row*in:(row+1)*in], w, bias, in, out)
		for o := range out {
			g, e := float64(got[row*out+o]), float64(exact[row*out+o])
			if math.Abs(g-want[o]) > 1e-4*size {
				t.Fatalf("row %d, output %d: %g, the formula gives %g", row, o, g, want[o])
			}
			if math.Abs(g-e) > 0.05*size {
				t.Errorf("row %d, output %d: %g, fp32 %g", row, o, g, e)
			}
		}
	}
	for _, n := range []int64{1, 8} {
		alone := layerOf(t, x[12*in:(12+n)*in], w, bias, n, in, out, true)
		for i, v := range alone {
			if v != got[12*out+i] {
				t.Fatalf("in a batch of %d: %g, in one of %d: %g", n, v, rows, got[12*out+i])
			}
		}
	}
}

// formula computes a row by QuantizeWeights' formula, and the size of its values.
func formula(x, w, bias []float32, in, out int) (y []float64, size float64) {
	largest := func(v []float32) float64 {
		m := 0.0
		for _, a := range v {
			m = max(m, math.Abs(float64(a)))
		}
		return m
	}
	y = make([]float64, out)
	rx := float64(float32(max(largest(x), 1e-30)) * float32(1.0/127))
	for o := range out {
		row := w[o*in : (o+1)*in]
		scale := largest(row) / 63
		sum := 0.0
		for i, a := range x {
			if scale > 0 {
				sum += math.RoundToEven(float64(a/float32(rx))) * math.RoundToEven(float64(row[i])/scale)
			}
		}
		y[o] = sum*rx*scale + float64(bias[o])
		size = max(size, math.Abs(y[o]))
	}
	return y, size
}

// Small weights, and layers that are not of the form x·Wᵀ + b, stay as they are.
func TestInt8LeavesOthers(t *testing.T) {
	g := onnx.NewGraph("others")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("rows"), onnx.FixedDim(64))
	w := g.Weight("w", onnx.Floats(make([]float32, 64*64), 64, 64))
	g.Output("small", g.Gemm(x, g.Weight("head", onnx.Floats(make([]float32, 64), 1, 64)), nil, onnx.GemmAttrs{TransB: true}))
	g.Output("plain", g.Gemm(x, w, nil, onnx.GemmAttrs{}))
	g.Output("inputs", g.Gemm(x, x, nil, onnx.GemmAttrs{TransB: true}))
	if n := g.QuantizeWeights(); n != 0 {
		t.Errorf("%d layers were quantized, want none", n)
	}
}
