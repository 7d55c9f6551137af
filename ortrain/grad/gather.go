package grad

import "rag-retrieval-go/ortrain/onnx"

var gatherRules = map[string]rule{"Gather": gatherRule}

// gatherRule: dx is zero, and dy is added to it at the gathered indices (a scatter). ScatterElements sums over duplicate
// indices correctly on every provider. ScatterND is not used, because the CPU provider has a data race on duplicates. The
// Gathers of a Partition and of a Join have faster rules.
func gatherRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	if p.partition(n) != nil {
		p.partitionRule(n)
		return nil
	}
	if j := p.join(n); j != nil {
		p.joinRule(j, dy)
		return nil
	}
	data, idx := n.Inputs[0], n.Inputs[1]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += data.Rank()
	}
	if axis == 0 {
		shape, rows := p.shapeOf(data), p.flattenRows(dy, data)
		dx := p.scatterRows(p.ConstantOfShape(shape, onnx.Filled(data.DType, 0, 1)), idx, rows)
		if idx.DType == onnx.Int64 && dx.DType == onnx.Float32 {
			p.Kernel(onnx.Kernel{Op: "GatherGradient", Inputs: []*onnx.Value{shape, idx, rows}, Outputs: []*onnx.Value{dx}})
		}
		p.accumulate(n, 0, dx)
		return nil
	}
	// Move the gathered axis to the front, scatter rows, and move it back.
	toFront, back := moveToFront(data.Rank(), axis, 1), make([]int64, data.Rank())
	for i, a := range toFront {
		back[a] = int64(i)
	}
	zeros := p.Transpose(p.zerosLike(data), toFront...)
	rows := p.Transpose(dy, moveToFront(dy.Rank(), axis, idx.Rank())...)
	p.accumulate(n, 0, p.Transpose(p.scatterRows(zeros, idx, p.flattenRows(rows, zeros)), back...))
	return nil
}

// moveToFront returns the permutation of rank dimensions that moves the dimensions axis, …, axis+count-1 to the front.
func moveToFront(rank, axis, count int) []int64 {
	var perm []int64
	for i := 0; i < count; i++ {
		perm = append(perm, int64(axis+i))
	}
	for i := 0; i < rank; i++ {
		if i < axis || i >= axis+count {
			perm = append(perm, int64(i))
		}
	}
	return perm
}

// scatterRows adds rows, [elements of idx, dimensions of a row …], to zeros, [rows, dimensions of a row …], at idx.
func (p *pass) scatterRows(zeros, idx, rows *onnx.Value) *onnx.Value {
	column := p.ReshapeTo(idx, append([]int64{-1}, ones(zeros.Rank()-1)...)...)
	return p.ScatterElementsAdd(zeros, p.Expand(column, p.shapeOf(rows)), rows)
}

// ones returns n ones.
func ones(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// flattenRows reshapes d, rows of data with leading dimensions of any number, to [rows, dimensions of a row of data …].
func (p *pass) flattenRows(d, data *onnx.Value) *onnx.Value {
	width, ok := data.Shape[1:].Sizes()
	if !ok {
		p.Fail("the gradient of Gather needs data whose dimensions but the gathered one have fixed sizes, not %v", data.Shape)
		return d
	}
	return p.ReshapeTo(d, append([]int64{-1}, width...)...)
}
