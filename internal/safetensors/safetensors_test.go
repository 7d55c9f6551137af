package safetensors

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestWriteThenOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	a := FromFloat32("a", []float32{1, -2, 3.5, 4, 5, 6}, 2, 3)
	s := FromFloat32("scalar", []float32{7})
	h := Tensor{Name: "half", DType: "F16", Shape: []int64{4}, Data: []byte{0, 0x3c, 0, 0xc0, 1, 0, 0, 0x7c}}
	b := Tensor{Name: "brain", DType: "BF16", Shape: []int64{2}, Data: []byte{0x80, 0x3f, 0x00, 0xc0}}
	if err := Write(path, map[string]string{"format": "pt"}, []Tensor{a, s, h, b}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string][]float32{
		"a": {1, -2, 3.5, 4, 5, 6}, "scalar": {7}, "brain": {1, -2},
		"half": {1, -2, float32(math.Ldexp(1, -24)), float32(math.Inf(1))},
	}
	for name, w := range want {
		if got, err := f.Float32(name); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, w)
		}
	}
	if got, _ := f.Tensor("a"); !reflect.DeepEqual(got.Shape, []int64{2, 3}) || f.Metadata["format"] != "pt" {
		t.Errorf("shape %v, metadata %v", got.Shape, f.Metadata)
	}
	if f.Tensors[0].Name != "a" || f.Tensors[3].Name != "brain" {
		t.Errorf("order of data: %v", f.Tensors)
	}
}

func TestBadFilesAreErrors(t *testing.T) {
	file := func(header string, data int) []byte {
		b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
		return append(append(b, header...), make([]byte, data)...)
	}
	cases := map[string]struct {
		content []byte
		want    string
	}{
		"empty":      {nil, "0 bytes long"},
		"huge":       {binary.LittleEndian.AppendUint64(nil, 1<<60), "cut short"},
		"not JSON":   {file("{{{{", 0), "safetensors header"},
		"truncated":  {file(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 8), "the file is cut short"},
		"size":       {file(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}`, 8), `tensor "a": bytes 0 to 8 for F32[4]`},
		"type":       {file(`{"a":{"dtype":"F7","shape":[4],"data_offsets":[0,8]}}`, 8), `unknown type "F7"`},
		"negative":   {file(`{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,8]}}`, 8), "impossible shape"},
		"overflow":   {file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), "impossible shape"},
		"bad offset": {file(`{"a":{"dtype":"F32","shape":[],"data_offsets":[-4,0]}}`, 8), "bytes -4 to 0"},
	}
	for name, c := range cases {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err == nil {
			f.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x.safetensors")
	if err := Write(path, map[string]string{"format": "pt"}, []Tensor{FromFloat32("a", []float32{1, 2}, 2), FromFloat32("b", nil, 0)}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &File{mapped: b, byName: map[string]int{}}
		if len(b) < 8 || x.parse() != nil {
			return
		}
		for _, y := range x.Tensors {
			y.Float32() // only that it does not panic
		}
	})
}
