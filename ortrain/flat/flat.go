// Package flat lays named tensors out in one buffer, so that clipping, the optimizer, checkpoints and all-reduce are
// each one pass over it. Tensors with weight decay come first.
package flat

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// Param is a trainable tensor.
type Param struct {
	Name string
	Dims []int64
	// Decay says whether the optimizer's weight decay applies: to matrices, not to biases and LayerNorm.
	Decay bool
	// Table marks a lookup table. Its graph input has a first dimension with a name instead of a size: the zeros
	// that its gradient starts from are then made when the graph runs, not folded into a constant for its life.
	Table bool
}

// Size is the number of elements.
func (p Param) Size() int64 { return onnx.Elements(p.Dims) }

// Input adds the tensor to a graph as an input.
func (p Param) Input(g *onnx.Graph) *onnx.Value {
	shape := onnx.Dims(p.Dims...)
	if p.Table {
		shape[0] = onnx.N(p.Name + ".rows")
	}
	return g.Input(p.Name, onnx.Float32, shape...)
}

// alignment is 256 bytes of float32: a cache line on every CPU, and what CUDA's allocators give.
const alignment = 64

// Layout says where each tensor lies.
type Layout struct {
	Params  []Param // in the order of the buffer
	Offsets []int64
	Decayed int64 // tensors below this offset have weight decay
	Total   int64 // elements in all, with the gaps

	index map[string]int
}

// NewLayout places tensors: decayed ones first, each group in the order given, each tensor at a 256-byte boundary.
func NewLayout(params []Param) (*Layout, error) {
	l := &Layout{index: map[string]int{}}
	for _, decay := range []bool{true, false} {
		for _, p := range params {
			if p.Decay != decay {
				continue
			}
			if _, dup := l.index[p.Name]; dup {
				return nil, fmt.Errorf("two parameters named %q", p.Name)
			}
			l.index[p.Name] = len(l.Params)
			l.Params = append(l.Params, p)
			l.Offsets = append(l.Offsets, l.Total)
			l.Total += (p.Size() + alignment - 1) / alignment * alignment
		}
		if decay {
			l.Decayed = l.Total
		}
	}
	return l, nil
}

// View is the tensor called name within a buffer of this layout.
func (l *Layout) View(buffer []float32, name string) ([]float32, error) {
	i, ok := l.index[name]
	if !ok {
		return nil, fmt.Errorf("no parameter named %q", name)
	}
	return l.at(buffer, i), nil
}

// Find gives where the tensor called name begins, and its dimensions.
func (l *Layout) Find(name string) (offset int64, dims []int64, err error) {
	i, ok := l.index[name]
	if !ok {
		return 0, nil, fmt.Errorf("no parameter named %q", name)
	}
	return l.Offsets[i], l.Params[i].Dims, nil
}

// Dims are the dimensions of the tensor called name; nil if there is none.
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
