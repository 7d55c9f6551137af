package grad

import "rag-retrieval-go/ortrain/onnx"

// Shapes as values of the graph, for the operators that take a shape as an input. Dimensions of fixed size become
// constants. Named dimensions are read when the graph runs.

// dimSize returns the size of v's dimension axis as an int64 [1] value. A named dimension is read from a graph input that
// has it, if there is one. Reading it from v would keep v in memory only for its shape.
func (p *pass) dimSize(v *onnx.Value, axis int) *onnx.Value {
	d := v.Shape[axis]
	if d.Fixed() {
		return p.IntVector(d.Size)
	}
	if s, ok := p.dimSizes[d.Name]; ok {
		return s
	}
	source, sourceAxis := v, axis
	for _, in := range p.Inputs {
		for i, e := range in.Shape {
			if e == d {
				source, sourceAxis = in, i
			}
		}
	}
	s := p.Gather(p.Shape(source), p.IntVector(int64(sourceAxis)), 0)
	p.dimSizes[d.Name] = s
	return s
}

// shapeOf returns v's shape as a 1-D int64 value.
func (p *pass) shapeOf(v *onnx.Value) *onnx.Value {
	if sizes, ok := v.Shape.Sizes(); ok {
		return p.IntVector(sizes...)
	}
	dims := make([]*onnx.Value, v.Rank())
	for i := range dims {
		dims[i] = p.dimSize(v, i)
	}
	return p.Concat(0, dims...)
}

// reshapeLike reshapes d to the shape of v. The shape is a constant if v has at most one named dimension, which becomes -1.
func (p *pass) reshapeLike(d, v *onnx.Value) *onnx.Value {
	if d.Shape.Equal(v.Shape) {
		return d
	}
	sizes := make([]int64, v.Rank())
	named := 0
	for i, dim := range v.Shape {
		sizes[i] = dim.Size
		if !dim.Fixed() {
			sizes[i] = -1
			named++
		}
	}
	if named <= 1 {
		return p.ReshapeTo(d, sizes...)
	}
	return p.Reshape(d, p.shapeOf(v))
}

// zerosLike returns zeros with the shape and type of v.
func (p *pass) zerosLike(v *onnx.Value) *onnx.Value { return p.filledLike(v, 0) }

// filledLike returns a tensor with the shape and type of v whose elements are all x.
func (p *pass) filledLike(v *onnx.Value, x float64) *onnx.Value {
	return p.ConstantOfShape(p.shapeOf(v), onnx.Filled(v.DType, x, 1))
}
