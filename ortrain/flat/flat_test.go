package flat

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/onnx"
)

func sample(t *testing.T) *Layout {
	t.Helper()
	l, err := NewLayout([]Param{
		{Name: "bias", Dims: []int64{3}}, {Name: "weight", Dims: []int64{5, 13}, Decay: true}, {Name: "scale", Dims: []int64{1}},
		{Name: "table", Dims: []int64{64}, Decay: true, Table: true}, {Name: "scalar"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Decayed tensors come first, each group is in the order given, and each tensor starts at a multiple of 64 elements.
func TestNewLayout(t *testing.T) {
	l := sample(t)
	var names []string
	for i, p := range l.Params {
		names = append(names, p.Name)
		if l.Offsets[i]%alignment != 0 {
			t.Errorf("%s starts at %d", p.Name, l.Offsets[i])
		}
	}
	if want := []string{"weight", "table", "bias", "scale", "scalar"}; !reflect.DeepEqual(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if want := []int64{0, 128, 192, 256, 320}; !reflect.DeepEqual(l.Offsets, want) || l.Decayed != 192 || l.Total != 384 {
		t.Errorf("offsets %v, decayed below %d of %d", l.Offsets, l.Decayed, l.Total)
	}
	if _, err := NewLayout([]Param{{Name: "a", Dims: []int64{1}}, {Name: "a", Dims: []int64{2}, Decay: true}}); err == nil || !strings.Contains(err.Error(), `two parameters named "a"`) {
		t.Errorf("%v", err)
	}
	empty, err := NewLayout(nil)
	if err != nil || empty.Total != 0 || empty.Decayed != 0 {
		t.Errorf("of nothing: %+v, %v", empty, err)
	}
}

// Views share the buffer, do not overlap, and do not include gaps.
func TestViews(t *testing.T) {
	l := sample(t)
	buffer := make([]float32, l.Total)
	for i, p := range l.Params {
		v, err := l.View(buffer, p.Name)
		if err != nil || int64(len(v)) != p.Size() {
			t.Fatalf("%s: %d elements, %v", p.Name, len(v), err)
		}
		for k := range v {
			v[k] += float32(i + 1)
		}
	}
	count := map[float32]int64{}
	for _, x := range buffer {
		count[x]++
	}
	if want := (map[float32]int64{1: 65, 2: 64, 3: 3, 4: 1, 5: 1, 0: 384 - 134}); !reflect.DeepEqual(count, want) {
		t.Errorf("elements by tensor: %v, want %v", count, want)
	}
	if _, err := l.View(buffer, "none"); err == nil || !strings.Contains(err.Error(), `no parameter named "none"`) {
		t.Errorf("%v", err)
	}
	if d := l.Dims("weight"); !reflect.DeepEqual(d, []int64{5, 13}) || l.Dims("none") != nil {
		t.Errorf("dims %v, %v", d, l.Dims("none"))
	}
}

// Each visits the tensors in the buffer's order and stops at the first error.
func TestEach(t *testing.T) {
	l := sample(t)
	buffer := make([]float32, l.Total)
	buffer[l.Offsets[1]] = 7
	stop := errors.New("stop")
	var seen []string
	err := l.Each(buffer, func(p Param, values []float32) error {
		seen = append(seen, p.Name)
		if values[0] == 7 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || !reflect.DeepEqual(seen, []string{"weight", "table"}) {
		t.Errorf("%v, %v", seen, err)
	}
}

// A parameter is a graph input of its shape. The first dimension of an embedding table has no fixed size.
func TestInput(t *testing.T) {
	g := onnx.NewGraph("g")
	if s := (Param{Name: "w", Dims: []int64{5, 13}}).Input(g).Shape; !reflect.DeepEqual(s, onnx.Dims(5, 13)) {
		t.Errorf("%v", s)
	}
	s := (Param{Name: "t", Dims: []int64{64, 2}, Table: true}).Input(g).Shape
	if s[0].Fixed() || s[0].Name != "t.rows" || s[1].Size != 2 {
		t.Errorf("%v", s)
	}
}
