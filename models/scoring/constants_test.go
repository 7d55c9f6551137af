package scoring_test

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/x448/float16"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/runtime"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const base = "../finetune/testdata/bert"

// round keeps six bits after the point: numbers that float32, float16 and bfloat16 all hold.
func round(values []float32) {
	for i, v := range values {
		values[i] = float32(math.Max(-1, math.Min(1, math.Round(float64(v)*64)/64)))
	}
}

// narrow turns a tensor of float32 into one of 16 bits.
func narrow(x safetensors.Tensor, values []float32, dtype string) safetensors.Tensor {
	x.DType, x.Data = dtype, nil
	for _, v := range values {
		bits := uint16(math.Float32bits(v) >> 16)
		if dtype == "F16" {
			bits = float16.Fromfloat32(v).Bits()
		}
		x.Data = binary.LittleEndian.AppendUint16(x.Data, bits)
	}
	return x
}

// folder copies the base model with its weights rounded, in a file of the given element type.
func folder(t *testing.T, dtype string) string {
	t.Helper()
	dir := t.TempDir()
	check(t, hf.CopyFiles(base, dir))
	b, err := os.ReadFile(filepath.Join(base, "vocab.txt"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "vocab.txt"), b, 0o600))
	w, err := hf.OpenWeights(base)
	check(t, err)
	defer w.Close()
	var tensors []safetensors.Tensor
	for _, x := range w.Tensors {
		values, err := x.Float32()
		if err != nil {
			continue // positions
		}
		round(values)
		if dtype == "F32" {
			tensors = append(tensors, safetensors.FromFloat32(x.Name, values, x.Shape...))
		} else {
			tensors = append(tensors, narrow(x, values, dtype))
		}
	}
	check(t, safetensors.Write(filepath.Join(dir, hf.SafetensorsFile), nil, tensors))
	return dir
}

func vectors(t *testing.T, dir string, o scoring.Options) [][]float32 {
	t.Helper()
	m, err := embedding.Open(dir)
	check(t, err)
	defer m.Close()
	o.Threads = 1
	e, err := embedding.NewEncoder(m, o)
	check(t, err)
	defer e.Close()
	v, err := e.Encode(context.Background(), []string{"如何重置密码", "苹果 1 2", "在设置页面点击忘记密码"}, true, 14, nil)
	check(t, err)
	return v
}

func same(t *testing.T, name string, got, want [][]float32) {
	t.Helper()
	for i := range want {
		for j := range want[i] {
			if d := math.Abs(float64(got[i][j] - want[i][j])); !(d <= 1e-6) {
				t.Fatalf("%s: vector %d, element %d: %g, want %g", name, i, j, got[i][j], want[i][j])
			}
		}
	}
}

// A model's vectors do not depend on how its file holds the weights: in 32 or 16 bits, where ONNX Runtime maps them, or
// where it cannot: behind a header of odd length, and through a symbolic link.
func TestWeightsStayInTheirFiles(t *testing.T) {
	dir := folder(t, "F32")
	want := vectors(t, dir, scoring.Options{})
	for _, dtype := range []string{"F16", "BF16"} {
		same(t, dtype, vectors(t, folder(t, dtype), scoring.Options{}), want)
	}
	same(t, "unoptimized", vectors(t, dir, scoring.Options{Options: runtime.Options{Unoptimized: true}}), want)

	path := filepath.Join(dir, hf.SafetensorsFile)
	b, err := os.ReadFile(path)
	check(t, err)
	n := binary.LittleEndian.Uint64(b)
	longer := append(binary.LittleEndian.AppendUint64(nil, n+1), b[8:8+n]...)
	longer = append(append(longer, ' '), b[8+n:]...)
	check(t, os.WriteFile(path, longer, 0o600))
	same(t, "odd header", vectors(t, dir, scoring.Options{}), want)

	elsewhere := filepath.Join(t.TempDir(), "blob")
	check(t, os.WriteFile(elsewhere, b, 0o600))
	check(t, os.Remove(path))
	check(t, os.Symlink(elsewhere, path))
	same(t, "symbolic link", vectors(t, dir, scoring.Options{}), want)

	odd := filepath.Join(t.TempDir(), "a b..#\xff")          // ONNX has names in UTF-8 only
	if err := os.Rename(folder(t, "F32"), odd); err == nil { // macOS refuses such a name
		same(t, "odd folder name", vectors(t, odd, scoring.Options{}), want)
	}
}

// Query, key and value of one layer, which one parameter joins, may differ in type.
func TestWeightsOfSeveralTypes(t *testing.T) {
	dir := folder(t, "F32")
	want := vectors(t, dir, scoring.Options{})
	path := filepath.Join(dir, hf.SafetensorsFile)
	w, err := hf.OpenWeights(dir)
	check(t, err)
	defer w.Close()
	changed := 0
	for i, x := range w.Tensors {
		if strings.HasSuffix(x.Name, "self.key.weight") {
			values, err := x.Float32()
			check(t, err)
			w.Tensors[i] = narrow(x, values, "BF16")
			changed++
		}
	}
	if changed == 0 {
		t.Fatal("no layer has a key")
	}
	check(t, safetensors.Write(path+".new", nil, w.Tensors))
	check(t, os.Rename(path+".new", path))
	same(t, "several types", vectors(t, dir, scoring.Options{}), want)
}
