// Package flat lays out named tensors in one buffer. Clipping, the optimizer and checkpoints are then each one pass over
// a range of the buffer:
//
//	| weight decay | no weight decay | frozen |
//
// Gradients, moments and checkpoints have the first two ranges only.
//
//	layout, err := flat.NewLayout(params)
//	buffer := make([]float32, layout.Total)
//	bias, err := layout.View(buffer, "dense.bias") // shares memory with buffer
package flat

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// Param is a tensor of a model.
type Param struct {
	Name string
	Dims []int64
	// Decay says whether the optimizer applies weight decay. It does for matrices, not for biases and LayerNorm.
	Decay bool
	// Table marks an embedding table. Its gradient starts from zeros of its shape. With a fixed shape, ONNX Runtime would
	// fold these zeros into a constant that stays in memory; so the first dimension of its graph input has a name instead
	// of a size.
	Table bool
	// Frozen says that the tensor is not trained.
	Frozen bool
}

// Size is the number of elements.
func (p Param) Size() int64 { return onnx.Elements(p.Dims) }

// Input adds the tensor to a graph as an input.
func (p Param) Input(g *onnx.Graph) *onnx.Value {
	shape := onnx.Dims(p.Dims...)
	if p.Table {
		shape[0] = onnx.NamedDim(p.Name + ".rows")
	}
	return g.Input(p.Name, onnx.Float32, shape...)
}

// alignment of a tensor in the buffer, in elements. 64 elements are 256 bytes: a multiple of every CPU's cache line, and the
// alignment of CUDA's allocators.
const alignment = 64

// Layout holds the position of each tensor in the buffer.
type Layout struct {
	Params  []Param // in the order of the buffer
	Offsets []int64 // of each of Params, in elements
	Decayed int64   // tensors below this offset have weight decay
	Trained int64   // tensors below this offset are trained
	Total   int64   // elements of the buffer, including gaps for alignment

	index map[string]int
}

// NewLayout places the trained tensors with weight decay first, then the other trained ones, then the frozen ones, each in the
// order given. Each tensor starts at a multiple of 256 bytes. Two parameters of one name are an error.
func NewLayout(params []Param) (*Layout, error) {
	l, at := &Layout{index: map[string]int{}}, int64(0)
	for _, x := range []struct {
		end     *int64
		belongs func(p Param) bool
	}{
		{&l.Decayed, func(p Param) bool { return p.Decay && !p.Frozen }},
		{&l.Trained, func(p Param) bool { return !p.Decay && !p.Frozen }},
		{&l.Total, func(p Param) bool { return p.Frozen }},
	} {
		for _, p := range params {
			if !x.belongs(p) {
				continue
			}
			if _, dup := l.index[p.Name]; dup {
				return nil, fmt.Errorf("two parameters named %q", p.Name)
			}
			l.index[p.Name] = len(l.Params)
			l.Params = append(l.Params, p)
			l.Offsets = append(l.Offsets, at)
			at += (p.Size() + alignment - 1) / alignment * alignment
		}
		*x.end = at
	}
	return l, nil
}

// TrainedParams returns the tensors that are trained: the first of Params.
func (l *Layout) TrainedParams() []Param {
	n := 0
	for n < len(l.Params) && !l.Params[n].Frozen {
		n++
	}
	return l.Params[:n]
}

// View returns the elements of the tensor called name within a buffer of this layout.
func (l *Layout) View(buffer []float32, name string) ([]float32, error) {
	i, ok := l.index[name]
	if !ok {
		return nil, fmt.Errorf("no parameter named %q", name)
	}
	return l.at(buffer, i), nil
}

// Find returns the offset, in elements, and the dimensions of the tensor called name.
func (l *Layout) Find(name string) (offset int64, dims []int64, err error) {
	i, ok := l.index[name]
	if !ok {
		return 0, nil, fmt.Errorf("no parameter named %q", name)
	}
	return l.Offsets[i], l.Params[i].Dims, nil
}

// Dims returns the dimensions of the tensor called name, or nil if there is none.
func (l *Layout) Dims(name string) []int64 {
	i, ok := l.index[name]
	if !ok {
		return nil
	}
	return l.Params[i].Dims
}

func (l *Layout) at(buffer []float32, i int) []float32 {
	start := l.Offsets[i]
	return buffer[start : start+l.Params[i].Size()]
}

// Each calls f with every tensor of a buffer, in the buffer's order, until f fails.
func (l *Layout) Each(buffer []float32, f func(p Param, values []float32) error) error {
	for i, p := range l.Params {
		if err := f(p, l.at(buffer, i)); err != nil {
			return err
		}
	}
	return nil
}
