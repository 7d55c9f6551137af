package hf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writeShards writes a checkpoint of two files, with an index file of the given name. It returns the folder.
func writeShards(t *testing.T, index, weightMap string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"a.safetensors", "b.safetensors"} {
		check(t, WriteWeights(filepath.Join(dir, name), nil, []safetensors.Tensor{
			safetensors.FromFloat32([]string{"x.LayerNorm.gamma", "y"}[i], []float32{float32(i), 2}, 2),
		}))
	}
	check(t, os.WriteFile(filepath.Join(dir, index), []byte(`{"weight_map": `+weightMap+`}`), 0o600))
	return dir
}

// readParam reads one parameter, [size].
func readParam(w *Weights, name string, size int64) ([]float32, error) {
	p := flat.Param{Name: name, Dims: []int64{size}}
	l, err := flat.NewLayout([]flat.Param{p})
	if err != nil {
		return nil, err
	}
	b := Buffer{l, make([]float32, l.Total)}
	if err := w.Fill(b, l.Params, func(n string) []string { return []string{n} }, nil); err != nil {
		return nil, err
	}
	return b.Values(p)
}

// OpenWeights reads sharded checkpoints with either index, and replaces TensorFlow's names of LayerNorm's parameters.
func TestShards(t *testing.T) {
	const weightMap = `{"x.LayerNorm.gamma": "a.safetensors", "y": "b.safetensors"}`
	for _, index := range []string{SafetensorsIndex, TorchIndex} {
		w, err := OpenWeights(writeShards(t, index, weightMap))
		check(t, err)
		defer w.Close()
		x, err := readParam(w, "x.LayerNorm.weight", 2)
		check(t, err)
		y, err := readParam(w, "y", 2)
		check(t, err)
		if x[0] != 0 || y[0] != 1 || len(w.Tensors) != 2 {
			t.Errorf("%s: %v, %v, %d tensors", index, x, y, len(w.Tensors))
		}
	}
}

func TestBrokenFolders(t *testing.T) {
	for weightMap, want := range map[string]string{
		`{"z": "a.safetensors"}`:    `tensor "z" is not in the shard a.safetensors`,
		`{"x": "../a.safetensors"}`: `which is outside the folder`,
		`{"x": "c.safetensors"}`:    "c.safetensors",
		`[]`:                        SafetensorsIndex,
	} {
		_, err := OpenWeights(writeShards(t, SafetensorsIndex, weightMap))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", weightMap, err, want)
		}
	}
	if _, err := OpenWeights(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has no weights: want model.safetensors") {
		t.Errorf("an empty folder: %v", err)
	}
	w, err := OpenWeights(writeShards(t, SafetensorsIndex, `{"y": "b.safetensors"}`))
	check(t, err)
	defer w.Close()
	for _, c := range []struct {
		name  string
		shape int64
		want  string
	}{{"none", 2, `no tensor "none"`}, {"y", 3, "has the shape [2], config.json says [3]"}} {
		if _, err := readParam(w, c.name, c.shape); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// New parameters depend on seed and name, and have the distributions with which PyTorch and transformers initialize them.
func TestInit(t *testing.T) {
	a, b, c := make([]float32, 1000), make([]float32, 1000), make([]float32, 1000)
	InitUniform(a, 1, "x", 25)
	InitUniform(b, 1, "x", 25)
	InitUniform(c, 1, "y", 25)
	same, largest := 0, float32(0)
	for i := range a {
		if a[i] != b[i] {
			t.Fatal("the same seed and name gave different values")
		}
		if a[i] == c[i] {
			same++
		}
		largest = max(largest, a[i], -a[i])
	}
	if same > 3 || largest > 0.2 || largest < 0.19 {
		t.Errorf("%d values are equal for two names; the largest is %g, want at most 0.2", same, largest)
	}
	InitNormal(a, 2, "x", 0.02, 0)
	sum := 0.0
	for _, v := range a {
		sum += float64(v) * float64(v)
	}
	if d := sum / 1000; d < 0.00034 || d > 0.00046 {
		t.Errorf("a variance of %g, want 0.0004", d)
	}
	InitNormal(a, 2, "x", 0.02, 2)
	sum, largest = 0, 0
	for _, v := range a {
		sum, largest = sum+float64(v)*float64(v), max(largest, v, -v)
	}
	if d := sum / 1000; d < 0.00026 || d > 0.00036 || largest > 0.04 || largest < 0.038 {
		t.Errorf("cut off at 2 deviations: a variance of %g and the largest %g, want 0.00031 and 0.04", d, largest)
	}
}
