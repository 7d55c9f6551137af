package kernels_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// The sizes of the weights below: several pieces, and edges that are no multiple of 32.
const (
	in, out, inputRows = 1100, 2077, 3
	partRows           = 1001 // of the first of two parts
)

// values are numbers that float16 and bfloat16 hold exactly.
func values(n int) []float32 {
	random, out := rand.New(rand.NewPCG(5, 6)), make([]float32, n)
	for i := range out {
		out[i] = float32(random.IntN(255)-127) / 64
	}
	return out
}

// narrow is a tensor of 16 bits with the given values.
func narrow(x []float32, dtype onnx.DType, dims ...int64) *onnx.Tensor {
	var raw []byte
	for _, v := range x {
		bits := math.Float32bits(v)
		if dtype == onnx.BFloat16 {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(bits>>16))
			continue
		}
		half := uint16(bits >> 31 << 15)
		if v != 0 {
			half |= uint16((bits>>23&255)-112)<<10 | uint16(bits>>13&1023)
		}
		raw = binary.LittleEndian.AppendUint16(raw, half)
	}
	return &onnx.Tensor{DType: dtype, Dims: dims, Raw: raw}
}

// inFile moves the data of a tensor into a file.
func inFile(t *testing.T, x *onnx.Tensor) *onnx.Tensor {
	path := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(path, append([]byte("header.."), x.Raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	return &onnx.Tensor{DType: x.DType, Dims: x.Dims, File: &onnx.FileRange{Path: path, Offset: 8}}
}

// runOn opens a session of a model and runs it on one input, with weights as inputs where the graph has them.
func runOn(t *testing.T, s *runtime.Session, inputs map[string]*onnx.Tensor) []float32 {
	t.Helper()
	b, err := s.NewBinding()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for name, x := range inputs {
		v := make([]float32, len(x.Raw)/4)
		if _, err := binary.Decode(x.Raw, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		if err := b.Floats(name, v, x.Dims...); err != nil {
			t.Fatal(err)
		}
	}
	y := make([]float32, inputRows*out)
	if err := errors.Join(b.OutputFloats("y", y, inputRows, out), b.Run()); err != nil {
		t.Fatal(err)
	}
	return y
}

// Wherever the weight of a product is, and in whichever parts and types: the graph of a session in bfloat16 holds it packed only, and gives
// the bits of a session that packs it in each run.
func TestPackedConstants(t *testing.T) {
	all := values(in * out)
	x := onnx.Floats(values(inputRows*in), inputRows, in)
	transposed := func(from, to int64) *onnx.Tensor { return onnx.Floats(all[from*in:to*in], to-from, in) }
	cases := map[string]func(g *onnx.Graph) (weight *onnx.Value, trans bool){
		"in memory":      func(g *onnx.Graph) (*onnx.Value, bool) { return g.Weight("w", transposed(0, out)), true },
		"not transposed": func(g *onnx.Graph) (*onnx.Value, bool) { return g.Weight("w", onnx.Floats(all, in, out)), false },
		"in a file":      func(g *onnx.Graph) (*onnx.Value, bool) { return g.Weight("w", inFile(t, transposed(0, out))), true },
		"in two files": func(g *onnx.Graph) (*onnx.Value, bool) {
			return g.Concat(0, g.Weight("v", inFile(t, transposed(0, partRows))), g.Weight("w", inFile(t, transposed(partRows, out)))), true
		},
		"a file and memory": func(g *onnx.Graph) (*onnx.Value, bool) {
			return g.Concat(0, g.Weight("v", inFile(t, transposed(0, partRows))), g.Weight("w", transposed(partRows, out))), true
		},
		"bfloat16": func(g *onnx.Graph) (*onnx.Value, bool) {
			return g.Cast(g.Weight("w", inFile(t, narrow(all, onnx.BFloat16, out, in))), onnx.Float32), true
		},
		"float16 in parts": func(g *onnx.Graph) (*onnx.Value, bool) {
			v, w := narrow(all[:partRows*in], onnx.Float16, partRows, in), narrow(all[partRows*in:], onnx.Float16, out-partRows, in)
			return g.Cast(g.Concat(0, g.Weight("v", inFile(t, v)), g.Weight("w", w)), onnx.Float32), true
		},
	}
	shape := func(trans bool) []int64 {
		if trans {
			return []int64{out, in}
		}
		return []int64{in, out}
	}
	for name, weight := range cases {
		t.Run(name, func(t *testing.T) {
			graph := func(constant bool) (file []byte, beside []*onnx.Value) {
				g := onnx.NewGraph("product")
				w, trans := weight(g)
				if !constant {
					g = onnx.NewGraph("product")
					w = g.Input("w", onnx.Float32, onnx.Dims(shape(trans)...)...)
				}
				product := g.Gemm(g.Input("x", onnx.Float32, onnx.Dims(inputRows, in)...), w, nil, onnx.GemmAttrs{TransB: trans})
				g.Output("y", g.AllowBF16(product))
				file, beside, err := g.BytesWithoutWeights()
				if err != nil {
					t.Fatal(err)
				}
				return file, beside
			}
			o := runtime.Options{BF16: kernels.Portable, Threads: 2}
			file, _ := graph(false)
			inputs := map[string]*onnx.Tensor{"x": x, "w": onnx.Floats(all, shape(name != "not transposed")...)}
			plain, err := runtime.NewSession(file, o)
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			want := runOn(t, plain, inputs)

			file, beside := graph(true)
			var mu sync.Mutex
			var released []string
			m, err := runtime.NewModel(file, beside, func(name string) {
				mu.Lock()
				defer mu.Unlock()
				released = append(released, name)
			}, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(released) != len(beside) {
				t.Errorf("released %v of %d weights in memory", released, len(beside))
			}
			for _, w := range beside {
				clear(w.Const.Raw)
			}
			var sessions []*runtime.Session
			for threads := 1; threads <= 2; threads++ {
				s, err := m.Open(threads)
				if err != nil {
					t.Fatal(err)
				}
				sessions = append(sessions, s)
			}
			if err := m.Close(); err != nil { // the sessions stay open
				t.Fatal(err)
			}
			for i, s := range sessions {
				if got := runOn(t, s, map[string]*onnx.Tensor{"x": x}); !slices.Equal(got, want) {
					t.Errorf("session %d gives other bits than one that packs in each run", i)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A session's graph holds two bytes an element of a weight that only products read, and neither its float32 values nor the nodes that made
// it. A weight that another operator reads, too, stays, as does one that cannot be read.
func TestConstantsThatStay(t *testing.T) {
	const size = 64
	all := values(size * size)
	build := func(f func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value) []byte {
		g := onnx.NewGraph("products")
		g.Output("y", f(g, g.Input("x", onnx.Float32, onnx.Dims(size, size)...), g.Weight("w", onnx.Floats(all, size, size))))
		file, err := g.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	product := func(g *onnx.Graph, x, w *onnx.Value, trans bool) *onnx.Value {
		return g.AllowBF16(g.Gemm(x, w, nil, onnx.GemmAttrs{TransB: trans}))
	}
	for name, c := range map[string]struct {
		build  func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value
		packed int
		stays  bool // the float32 values
		want   map[string]int
	}{
		"two products, one packed weight": {func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value {
			return product(g, product(g, x, w, true), w, true)
		}, 1, false, map[string]int{"PackedProduct": 2}},
		"two products, transposed and not": {func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value {
			return product(g, product(g, x, w, true), w, false)
		}, 2, false, map[string]int{"PackedProduct": 2}},
		"another reader": {func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value {
			return g.Add(product(g, x, w, true), w)
		}, 0, true, map[string]int{"Product": 1, "Add": 1}},
		"another reader of a part": {func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value {
			joined := g.Concat(0, w, g.Weight("v", onnx.Floats(all, size, size)))
			return g.Add(g.MatMul(product(g, x, joined, true), g.Const(onnx.Floats(values(2*size*size), 2*size, size))), w)
		}, 1, true, map[string]int{"PackedProduct": 1, "MatMul": 1, "Add": 1}},
		"the first factor": {func(g *onnx.Graph, x, w *onnx.Value) *onnx.Value { return product(g, w, x, true) }, 0, true, map[string]int{"Product": 1}},
	} {
		g := substitute(t, build(c.build), kernels.Portable)
		packed := 0
		if g.Packed != nil {
			packed = len(g.Packed.Weights)
			for _, w := range g.Packed.Weights {
				if rows := len(w.Data) / 2 / size; rows != size && rows != 2*size {
					t.Errorf("%s: %d bytes", name, len(w.Data))
				}
			}
		}
		if got := operators(t, g.Model); packed != c.packed || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %d packed weights, %v, want %d, %v", name, packed, got, c.packed, c.want)
		}
		if holds := bytes.Contains(g.Model, onnx.Floats(all, size, size).Raw); holds != c.stays {
			t.Errorf("%s: whether the file holds the weight: %v", name, holds)
		}
	}

	g := onnx.NewGraph("missing")
	w := g.Weight("w", &onnx.Tensor{DType: onnx.Float32, Dims: []int64{size, size}, File: &onnx.FileRange{Path: filepath.Join(t.TempDir(), "none")}})
	g.Output("y", product(g, g.Input("x", onnx.Float32, onnx.Dims(size, size)...), w, true))
	file, beside, err := g.BytesWithoutWeights()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := runtime.NewModel(file, beside, nil, runtime.Options{BF16: kernels.Portable}); err != nil {
		t.Error(err)
	} else if _, err := m.Open(1); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a missing file: %v", err)
	}
}

// A file of weights that ends too early is an error that names the weight.
func TestPackingOfAShortFile(t *testing.T) {
	x := inFile(t, onnx.Floats(values(64*64), 64, 64))
	if err := os.Truncate(x.File.Path, 1000); err != nil {
		t.Fatal(err)
	}
	g := onnx.NewGraph("short")
	g.Output("y", g.AllowBF16(g.Gemm(g.Input("x", onnx.Float32, onnx.Dims(3, 64)...), g.Weight("layer.weight", x), nil, onnx.GemmAttrs{TransB: true})))
	file, beside, err := g.BytesWithoutWeights()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.NewModel(file, beside, nil, runtime.Options{BF16: kernels.Portable}); err == nil || !strings.Contains(err.Error(), `"layer.weight"`) || !strings.Contains(err.Error(), "EOF") {
		t.Error(err)
	}
}
