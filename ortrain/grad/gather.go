package grad

import "rag-retrieval-go/ortrain/onnx"

var gatherRules = map[string]rule{"Gather": gatherRule}

// gatherRule adds each slice's gradient to the place it came from. ScatterElements adds up duplicate indices
// correctly on every provider; ScatterND races on them on the CPU and is not used. Where the graph knows the
// inverse index, the gradient is a Gather too.
func gatherRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	if n.Inverse != nil {
		p.add(n, 0, p.gatherBack(n, dy))
		return nil
	}
	data, idx := n.Inputs[0], n.Inputs[1]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += data.Rank()
	}
	if axis == 0 {
		p.add(n, 0, p.scatterRows(p.zerosLike(data), idx, dy))
		return nil
	}
	// Bring the gathered axis to the front, scatter rows, and bring it back.
	front, back := rotation(data.Rank(), axis, 1), make([]int64, data.Rank())
	for i, a := range front {
		back[a] = int64(i)
	}
	zeros := p.Transpose(p.zerosLike(data), front...)
	rows := p.Transpose(dy, rotation(dy.Rank(), axis, idx.Rank())...)
	p.add(n, 0, p.Transpose(p.scatterRows(zeros, idx, rows), back...))
	return nil
}

// rotation is the permutation that moves count dimensions from axis to the front.
func rotation(rank, axis, count int) []int64 {
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

// scatterRows adds rows ([indices..., rest...]) to zeros ([rows, rest...]) at idx.
func (p *pass) scatterRows(zeros, idx, rows *onnx.Value) *onnx.Value {
	rest := zeros.Shape[1:]
	width, ok := rest.Sizes()
	if !ok {
		p.Fail("the gradient of Gather needs fixed sizes besides the gathered axis, not %v", rest)
		return zeros
	}
	flat := p.ReshapeTo(rows, append([]int64{-1}, width...)...)
	at := p.ReshapeTo(idx, append([]int64{-1}, ones(len(width))...)...)
	return p.ScatterElementsAdd(zeros, p.Expand(at, p.shapeOf(flat)), flat)
}

func ones(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// gatherBack reads the gradient at the inverse index. Rows that appear nowhere read an added row of zeros: any
// other row there would give wrong gradients that still look plausible.
func (p *pass) gatherBack(n *onnx.Node, dy *onnx.Value) *onnx.Value {
	if n.InverseTotal {
		return p.Gather(dy, n.Inverse, 0)
	}
	row := []int64{1}
	for _, d := range dy.Shape[1:] {
		row = append(row, d.Size)
	}
	zero := make([]float32, onnx.Elements(row))
	tensor := onnx.Floats(zero, row...)
	if dy.DType == onnx.Float64 {
		tensor = onnx.Doubles(make([]float64, len(zero)), row...)
	}
	return p.Gather(p.Concat(0, dy, p.Const(tensor)), n.Inverse, 0)
}
