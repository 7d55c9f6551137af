package runtime_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

// TestDevice copies to and from device memory, in one part and in several, and computes there in place. It uses ONNX Runtime's
// CPU allocator, with the same calls as on a GPU, and the GPU if there is one.
func TestDevice(t *testing.T) {
	for _, provider := range []string{runtime.CPU, runtime.CUDA} {
		t.Run(provider, func(t *testing.T) {
			if provider == runtime.CUDA {
				runtimetest.NeedProvider(t)
			}
			o := runtime.Options{Provider: provider}
			d, err := runtime.OpenDevice(o)
			check(t, err)
			defer func() { check(t, d.Close()) }()
			o.Device = d
			for _, n := range []int{1, 1000, 40<<20 + 7} {
				roundTrip(t, d, n)
			}
			if runtimetest.Computes(provider) {
				onePlusOne(t, d, o)
			}
		})
	}
}

func roundTrip(t *testing.T, d *runtime.Device, n int) {
	t.Helper()
	b, err := d.NewBlock(n)
	check(t, err)
	defer func() { check(t, b.Close()) }()
	back := make([]float32, n)
	back[n-1] = 1
	check(t, b.Download(0, back))
	if slices.ContainsFunc(back, func(x float32) bool { return x != 0 }) {
		t.Fatal("a new block is not zero")
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = rand.Float32()
	}
	check(t, b.Upload(0, values))
	check(t, b.Download(0, back))
	if !slices.Equal(values, back) {
		t.Fatalf("a block of %d did not come back", n)
	}
	check(t, b.Upload(n/2, values[:n-n/2]))
	check(t, b.Download(n/3, back[:n-n/3]))
	want := append(slices.Clone(values[n/3:n/2]), values[:n-n/2]...)
	if !slices.Equal(back[:n-n/3], want) {
		t.Fatalf("part of a block of %d did not come back", n)
	}
	if err := b.Upload(1, values); err == nil {
		t.Fatal("written past the end")
	}
	if _, err := b.View(1, int64(n)); err == nil {
		t.Fatal("a view past the end")
	}
}

// onePlusOne adds 1 to two views of a block in place, and copies their sum to the host.
func onePlusOne(t *testing.T, d *runtime.Device, o runtime.Options) {
	t.Helper()
	g := onnx.NewGraph("one plus")
	x := g.Input("x", onnx.Float32, onnx.NamedDim("n"))
	y := g.Add(x, g.Input("y", onnx.Float32, onnx.FixedDim(1)))
	g.Output("out", y)
	g.Output("sum", g.ReduceSum(y, true, 0))
	model, err := g.Bytes()
	check(t, err)
	s, err := runtime.NewSession(model, o)
	check(t, err)
	defer func() { check(t, s.Close()) }()
	b, err := s.NewBinding()
	check(t, err)
	defer func() { check(t, b.Close()) }()
	block, err := d.NewBlock(256)
	check(t, err)
	defer func() { check(t, block.Close()) }()
	sum, got := make([]float32, 1), make([]float32, 256)
	for i, offset := range []int64{64, 128, 128} {
		view, err := block.View(offset, 64)
		check(t, err)
		check(t, b.Input("x", view))
		check(t, b.Output("out", view))
		check(t, b.Floats("y", []float32{1}, 1))
		check(t, b.OutputFloats("sum", sum, 1))
		check(t, b.Run())
		check(t, view.Close())
		if want := []float32{64, 64, 128}[i]; sum[0] != want {
			t.Errorf("run %d: the sum is %g, want %g", i, sum[0], want)
		}
	}
	check(t, block.Download(0, got))
	for i, x := range got {
		if want := []float32{0, 1, 2, 0}[i/64]; x != want {
			t.Fatalf("element %d is %g, want %g", i, x, want)
		}
	}
}

// TestLibraryStructs checks the layout of onnxruntime_go's structs whose pointers device.go reads.
func TestLibraryStructs(t *testing.T) {
	field := func(x any, path ...string) reflect.Type {
		y := reflect.TypeOf(x)
		for _, name := range path {
			f, ok := y.FieldByName(name)
			if !ok || f.Offset != 0 || f.Type.Kind() != reflect.Pointer {
				t.Fatalf("%v does not begin with the pointer %s", y, name)
			}
			y = f.Type.Elem()
		}
		return y
	}
	field(ort.DynamicAdvancedSession{}, "s", "ortSession")
	field(ort.IoBinding{}, "o")
	field(ort.ValueInternalData{}, "ortValue")
	if n := reflect.TypeFor[ort.ValueInternalData]().NumField(); n != 1 {
		t.Errorf("ValueInternalData has %d fields, want one", n)
	}
}
