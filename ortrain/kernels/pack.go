package kernels

import (
	"errors"
	"os"
	"slices"
	"sync"

	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// packConstants packs the constant weights of products that no other operator reads: the graph then holds two bytes an element of them, and
// no float32. A constant may be made of several initializers, and of narrower ones:
//
//	query [n, k] ──┐
//	key   [n, k] ──┼─ Concat ── Cast ── Product        becomes        packed ── PackedProduct
//	value [n, k] ──┘
//
// One initializer after the other is read, in pieces, from wherever it is.
func (s *substitution) packConstants() (*Packed, error) {
	if s.Unit == None {
		return nil, nil
	}
	data := &storage{folder: s.Folder, memory: s.Memory, files: map[string]*os.File{}}
	list := s.matrices(data)
	if len(list) == 0 {
		return nil, data.close()
	}
	s.prune()
	s.dropConstants()
	packed, err := packMatrices(list, s.Unit, s.Threads, s.releaser(list))
	if err = errors.Join(err, data.close()); err != nil {
		return nil, errors.Join(err, packed.Close())
	}
	for _, w := range packed.Weights {
		// The session gets the data. What stands here is empty: ONNX Runtime would look for a file of external data.
		s.graph.Initializer = append(s.graph.Initializer, &onnxpb.TensorProto{Name: w.Name, DataType: int32(onnx.Uint8), Dims: []int64{0}})
	}
	return packed, nil
}

// matrices makes each product whose weight can be packed a PackedProduct, and returns the weights.
func (s *substitution) matrices(data *storage) []*matrix {
	made := map[string]*matrix{}
	var list []*matrix
	others := s.otherReaders()
	for i, n := range s.graph.Node {
		if n.OpType != "Product" || n.Domain != Domain || len(n.Input) < 2 || others[n.Input[1]] {
			continue
		}
		trans := intOf(n, "transB") != 0
		name := n.Input[1] + ":packed"
		if trans {
			name += "_transposed"
		}
		if made[name] == nil {
			c := s.constant(n.Input[1], i, data)
			if c == nil || c.dtype != "F32" || len(c.dims) != 2 || c.dims[0] <= 0 || c.dims[1] <= 0 {
				continue
			}
			m := &matrix{name: name, values: c, trans: trans, n: c.dims[1], k: c.dims[0]}
			if trans {
				m.n, m.k = m.k, m.n
			}
			made[name] = m
			list = append(list, m)
		}
		n.OpType, n.Input[1] = "PackedProduct", name
		n.Attribute = slices.DeleteFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool { return a.Name == "transB" || a.Name == "weight" })
		n.Attribute = append(n.Attribute, intAttribute("n", made[name].n), intAttribute("k", made[name].k))
	}
	return list
}

// otherReaders has the values that are read in another way than as a product's weight.
func (s *substitution) otherReaders() map[string]bool {
	out := map[string]bool{}
	for _, v := range s.graph.Output {
		out[v.Name] = true
	}
	for _, n := range s.graph.Node {
		for i, name := range n.Input {
			if n.OpType != "Product" || n.Domain != Domain || i != 1 {
				out[name] = true
			}
		}
	}
	return out
}

// constant returns a value that is an initializer, or is joined of such and widened, by nodes before the one with the number reader; nil if it
// is not.
func (s *substitution) constant(name string, reader int, data *storage) *constant {
	if t := s.constants[name]; t != nil {
		d, ok := data.find(t)
		if !ok {
			return nil
		}
		return &constant{d.dims, d.dtype, []stored{d}}
	}
	i := slices.IndexFunc(s.graph.Node[:reader], func(n *onnxpb.NodeProto) bool { return slices.Contains(n.Output, name) })
	if i < 0 {
		return nil
	}
	switch n := s.graph.Node[i]; {
	case n.Domain == "" && n.OpType == "Cast" && len(n.Input) == 1 && intOf(n, "to") == int64(onnx.Float32):
		if c := s.constant(n.Input[0], i, data); c != nil {
			return &constant{c.dims, "F32", c.parts}
		}
	case n.Domain == "" && n.OpType == "Concat" && intOf(n, "axis") == 0:
		var joined *constant
		for _, in := range n.Input {
			c := s.constant(in, i, data)
			switch {
			case c == nil || len(c.dims) == 0:
				return nil
			case joined == nil:
				joined = &constant{slices.Clone(c.dims), c.dtype, c.parts}
				continue
			case c.dtype != joined.dtype || !slices.Equal(c.dims[1:], joined.dims[1:]):
				return nil
			}
			joined.dims[0] += c.dims[0]
			joined.parts = slices.Concat(joined.parts, c.parts)
		}
		return joined
	}
	return nil
}

// dropConstants removes the initializers that no node reads.
func (s *substitution) dropConstants() {
	read := map[string]bool{}
	for _, v := range s.graph.Output {
		read[v.Name] = true
	}
	for _, n := range s.graph.Node {
		for _, name := range n.Input {
			read[name] = true
		}
	}
	s.graph.Initializer = slices.DeleteFunc(s.graph.Initializer, func(t *onnxpb.TensorProto) bool { return !read[t.Name] })
}

// releaser returns a function that is called with each matrix when it is packed: it tells Release which constants nobody reads any more.
func (s *substitution) releaser(list []*matrix) func(*matrix) {
	if s.Release == nil {
		return func(*matrix) {}
	}
	var mu sync.Mutex
	readers := map[string]int{}
	for _, t := range s.graph.Initializer {
		readers[t.Name]++ // ONNX Runtime
	}
	for _, m := range list {
		for _, d := range m.values.parts {
			readers[d.name]++
		}
	}
	return func(m *matrix) {
		for _, d := range m.values.parts {
			mu.Lock()
			readers[d.name]--
			last := readers[d.name] == 0
			mu.Unlock()
			if last && s.Memory[d.name] != nil {
				s.Release(d.name)
			}
		}
	}
}

func intOf(n *onnxpb.NodeProto, name string) int64 {
	for _, a := range n.Attribute {
		if a.Name == name {
			return a.GetI()
		}
	}
	return 0
}
