package onnx

import (
	"fmt"
	"math"
	"slices"
)

// Shape inference of the operators that move elements without computing. They also propagate Value.contents, the elements of
// shapes and of other int64 vectors that are known when the graph is built.

func inferShapeOp(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	out.DType, out.Shape = Int64, Dims(int64(x.Rank()))
	out.contents = append([]Dim{}, x.Shape...)
	return nil
}

func inferSize(n *Node) error {
	out := n.Outputs[0]
	out.DType, out.Shape = Int64, Shape{}
	out.contents = []Dim{mulDims(n.Inputs[0].Shape...)}
	return nil
}

func inferReshape(n *Node) error {
	x, shape, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if shape.contents == nil && !(shape.Rank() == 1 && shape.Shape[0] == FixedDim(0)) {
		return fmt.Errorf("Reshape: the shape %s is not known when the graph is built", shape.Name)
	}
	target := make(Shape, len(shape.contents))
	inferred := -1 // the dimension whose size is -1: it follows from the others
	for i, d := range shape.contents {
		switch {
		case d == FixedDim(-1):
			if inferred >= 0 {
				return fmt.Errorf("Reshape to %v: only one dimension may be -1", Shape(shape.contents))
			}
			inferred, d = i, FixedDim(1)
		case d == FixedDim(0) && i < x.Rank():
			d = x.Shape[i]
		}
		target[i] = d
	}
	if inferred >= 0 {
		d, ok := divDims(mulDims(x.Shape...), mulDims(target...))
		if !ok {
			return fmt.Errorf("Reshape of %v to %v: the numbers of elements do not fit", x.Shape, Shape(shape.contents))
		}
		target[inferred] = d
	} else if mulDims(x.Shape...) != mulDims(target...) {
		return fmt.Errorf("Reshape of %v to %v: the numbers of elements differ", x.Shape, Shape(shape.contents))
	}
	out.DType, out.Shape = x.DType, target
	if x.DType == Int64 && out.Rank() <= 1 {
		out.contents = x.contents
	}
	return nil
}

func inferTranspose(n *Node) error {
	x, perm, out := n.Inputs[0], n.Ints("perm"), n.Outputs[0]
	if len(perm) != x.Rank() {
		return fmt.Errorf("Transpose of %v: want a permutation of its dimensions, not %v", x.Shape, perm)
	}
	out.DType, out.Shape = x.DType, make(Shape, x.Rank())
	for i, p := range perm {
		if p < 0 || p >= int64(x.Rank()) {
			return fmt.Errorf("Transpose of %v: want a permutation of its dimensions, not %v", x.Shape, perm)
		}
		out.Shape[i] = x.Shape[p]
	}
	return nil
}

func inferSqueeze(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	axes, err := axesOf(n, x.Rank())
	if err != nil {
		return err
	}
	out.DType, out.Shape, out.contents = x.DType, Shape{}, x.contents
	for i, d := range x.Shape {
		if !slices.Contains(axes, int64(i)) {
			out.Shape = append(out.Shape, d)
		} else if d != FixedDim(1) {
			return fmt.Errorf("Squeeze of axis %d of %v: its size is %v, want 1", i, x.Shape, d)
		}
	}
	return nil
}

func inferUnsqueeze(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	rank := x.Rank() + len(n.Inputs[1].contents)
	axes, err := axesOf(n, rank)
	if err != nil {
		return err
	}
	out.DType, out.Shape = x.DType, Shape{}
	next := 0
	for i := 0; i < rank; i++ {
		if slices.Contains(axes, int64(i)) {
			out.Shape = append(out.Shape, FixedDim(1))
		} else if next == x.Rank() {
			return fmt.Errorf("Unsqueeze of %v: an axis of %v is there twice", x.Shape, axes)
		} else {
			out.Shape = append(out.Shape, x.Shape[next])
			next++
		}
	}
	if out.Rank() == 1 {
		out.contents = x.contents
	}
	return nil
}

func inferExpand(n *Node) error {
	x, shape, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if shape.contents == nil {
		return fmt.Errorf("Expand: the shape %s is not known when the graph is built", shape.Name)
	}
	s, err := Broadcast(x.Shape, Shape(shape.contents))
	out.DType, out.Shape = x.DType, s
	if s.Equal(Dims(0)) {
		out.contents = []Dim{} // the contents of an empty vector are always known
	}
	return err
}

func inferConcat(n *Node) error {
	out, first := n.Outputs[0], n.Inputs[0]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += first.Rank()
	}
	if axis < 0 || axis >= first.Rank() {
		return fmt.Errorf("Concat: there is no axis %d in %v", n.Int("axis", 0), first.Shape)
	}
	out.DType, out.Shape = first.DType, append(Shape{}, first.Shape...)
	joined := make([]Dim, len(n.Inputs))
	contentsKnown := first.DType == Int64 && first.Rank() == 1
	for i, v := range n.Inputs {
		if v.DType != first.DType || v.Rank() != first.Rank() {
			return fmt.Errorf("Concat of %v%v and %v%v: want one type and one number of dimensions", first.DType, first.Shape, v.DType, v.Shape)
		}
		for j, d := range v.Shape {
			if j != axis && d != first.Shape[j] {
				return fmt.Errorf("Concat of %v and %v along axis %d: dimension %d differs", first.Shape, v.Shape, axis, j)
			}
		}
		joined[i] = v.Shape[axis]
		contentsKnown = contentsKnown && v.contents != nil
	}
	out.Shape[axis] = addDims(joined...)
	if contentsKnown {
		for _, v := range n.Inputs {
			out.contents = append(out.contents, v.contents...)
		}
	}
	return nil
}

func inferSplit(n *Node) error {
	x := n.Inputs[0]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += x.Rank()
	}
	sizes := n.Inputs[1].contents
	if axis < 0 || axis >= x.Rank() || len(sizes) != len(n.Outputs) || addDims(sizes...) != x.Shape[axis] {
		return fmt.Errorf("Split of %v along axis %d into %v: want a size for each output, with the sum of the axis", x.Shape, axis, Shape(sizes))
	}
	for i, out := range n.Outputs {
		out.DType, out.Shape = x.DType, append(Shape{}, x.Shape...)
		out.Shape[axis] = sizes[i]
	}
	return nil
}

// inferTopK gives both outputs the length k along the axis: that of a constant, else a named dimension.
func inferTopK(n *Node) error {
	x := n.Inputs[0]
	axis := int(n.Int("axis", -1))
	if axis < 0 {
		axis += x.Rank()
	}
	if axis < 0 || axis >= x.Rank() || len(n.Outputs) != 2 {
		return fmt.Errorf("TopK of %v along axis %d with %d outputs: want an axis of it, and values and indices", x.Shape, axis, len(n.Outputs))
	}
	k := NamedDim("top(" + n.Name + ")")
	if contents := n.Inputs[1].contents; len(contents) == 1 {
		k = contents[0]
	}
	for i, dtype := range []DType{x.DType, Int64} {
		out := n.Outputs[i]
		out.DType, out.Shape = dtype, append(Shape{}, x.Shape...)
		out.Shape[axis] = k
	}
	return nil
}

// inferSlice computes the length of a slice with constant bounds along a fixed dimension. Any other slice gets a named
// dimension, which Graph.AssumeShape can replace.
func inferSlice(n *Node) error {
	x, out := n.Inputs[0], n.Outputs[0]
	starts, ends, axes := n.Inputs[1].Const.Int64s(), n.Inputs[2].Const.Int64s(), n.Inputs[3].Const.Int64s()
	out.DType, out.Shape = x.DType, append(Shape{}, x.Shape...)
	if axes == nil {
		return fmt.Errorf("Slice: the axes are not constant")
	}
	if len(n.Inputs) > 4 {
		return fmt.Errorf("Slice: steps are not supported")
	}
	if starts != nil && len(starts) != len(axes) || ends != nil && len(ends) != len(axes) {
		return fmt.Errorf("Slice from %v to %v along the axes %v: want a start and an end for each axis", starts, ends, axes)
	}
	for i, a := range axes {
		if a < 0 {
			a += int64(x.Rank())
		}
		if a < 0 || a >= int64(x.Rank()) {
			return fmt.Errorf("Slice: there is no axis %d in %v", axes[i], x.Shape)
		}
		d := x.Shape[a]
		if starts == nil || ends == nil {
			out.Shape[a] = NamedDim("slice(" + n.Name + ")")
			continue
		}
		if !d.Fixed() {
			if starts[i] != 0 || ends[i] != math.MaxInt64 {
				out.Shape[a] = NamedDim("slice(" + n.Name + ")")
			}
			continue
		}
		start := sliceBound(starts[i], d.Size)
		end := max(start, sliceBound(ends[i], d.Size))
		out.Shape[a] = FixedDim(end - start)
		if x.contents != nil && x.Rank() == 1 {
			out.contents = x.contents[start:end]
		}
	}
	return nil
}

// sliceBound returns the bound i of a slice as a number from 0 to size. A negative bound counts from the end.
func sliceBound(i, size int64) int64 {
	if i < 0 {
		i += size
	}
	return min(max(i, 0), size)
}

func inferPad(n *Node) error {
	x, pads, out := n.Inputs[0], n.Inputs[1].contents, n.Outputs[0]
	if len(pads) != 2*x.Rank() {
		return fmt.Errorf("Pad of %v by %v: want two numbers for each dimension", x.Shape, Shape(pads))
	}
	out.DType, out.Shape = x.DType, make(Shape, x.Rank())
	for i, d := range x.Shape {
		out.Shape[i] = addDims(d, pads[i], pads[i+x.Rank()])
	}
	return nil
}

func inferConstantOfShape(n *Node) error {
	shape, out := n.Inputs[0], n.Outputs[0]
	fill, ok := n.Attrs["value"].(*Tensor)
	if !ok || shape.contents == nil && !shape.Shape.Equal(Dims(0)) {
		return fmt.Errorf("ConstantOfShape: the shape %s is not known when the graph is built, or the value is missing", shape.Name)
	}
	out.DType, out.Shape = fill.DType, append(Shape{}, shape.contents...)
	return nil
}

func inferRange(n *Node) error {
	start, limit, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	if len(limit.contents) != 1 || len(start.contents) != 1 || start.contents[0] != FixedDim(0) {
		return fmt.Errorf("Range: want the start 0 and a limit that is known when the graph is built")
	}
	out.DType, out.Shape = start.DType, Shape{limit.contents[0]}
	return nil
}

func inferGather(n *Node) error {
	data, idx, out := n.Inputs[0], n.Inputs[1], n.Outputs[0]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += data.Rank()
	}
	if axis < 0 || axis >= data.Rank() || idx.DType != Int64 && idx.DType != Int32 {
		return fmt.Errorf("Gather from %v along axis %d with %v indices: want an axis of the data and integers", data.Shape, axis, idx.DType)
	}
	out.DType = data.DType
	out.Shape = append(append(append(Shape{}, data.Shape[:axis]...), idx.Shape...), data.Shape[axis+1:]...)
	if data.contents != nil && idx.Const != nil {
		for _, i := range idx.Const.Int64s() {
			if i < 0 {
				i += int64(len(data.contents))
			}
			if i < 0 || i >= int64(len(data.contents)) {
				return fmt.Errorf("Gather: there is no index %d in %v", i, Shape(data.contents))
			}
			out.contents = append(out.contents, data.contents[i])
		}
	}
	return nil
}
