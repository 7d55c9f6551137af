package torchfile

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
)

// want holds the tensors that scripts/fixtures/make_torchfile.py wrote into every file of testdata with PyTorch.
type want map[string]struct {
	DType  string
	Shape  []int64
	Values []float32
}

// Both formats are read, with parameters, transposed views, shared storages, float16, an empty tensor and a scalar.
func TestEveryTensor(t *testing.T) {
	var expected want
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zip.bin", "legacy.bin", "nested.bin"} {
		f, err := Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := map[string]safetensors.Tensor{}
		for _, x := range f.Tensors {
			got[x.Name] = x
		}
		if len(got) != len(expected) {
			t.Errorf("%s: %d tensors, want %d", name, len(got), len(expected))
		}
		for key, w := range expected {
			x := got[key]
			if x.DType != w.DType || len(x.Shape) != len(w.Shape) {
				t.Errorf("%s: %q is %s%v, want %s%v", name, key, x.DType, x.Shape, w.DType, w.Shape)
				continue
			}
			if w.DType == "I64" {
				continue
			}
			values, err := x.Float32()
			if err != nil || len(values) != len(w.Values) {
				t.Fatalf("%s: %q has %d values, want %d (%v)", name, key, len(values), len(w.Values), err)
			}
			for i, v := range w.Values {
				if math.Abs(float64(values[i]-v)) > 1e-7 {
					t.Errorf("%s: %q element %d is %g, want %g", name, key, i, values[i], v)
				}
			}
		}
	}
}

// A file that is cut short anywhere, or has a changed byte in its table, may be an error but never a panic.
func TestBrokenFiles(t *testing.T) {
	for _, name := range []string{"zip.bin", "legacy.bin"} {
		whole, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		for n := 0; n < len(whole); n += 1 + len(whole)/100 {
			if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				t.Errorf("%s cut at byte %d of %d was read", name, n, len(whole))
				f.Close()
			} else if !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%s cut at byte %d: the error does not name the file: %v", name, n, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"zip.bin", "legacy.bin", "nested.bin"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &File{mapped: b}
		if x.parse() != nil {
			return
		}
		for _, y := range x.Tensors {
			y.Float32() // only that it does not panic
		}
	})
}
