package grad

import "rag-retrieval-go/ortrain/onnx"

var gatherRules = map[string]rule{"Gather": gatherRule}

// gatherRule adds each slice's gradient to the place it came from. ScatterElements adds up duplicate indices
// correctly on every provider; ScatterND races on them on the CPU and is not used. The Gathers of a Partition and of a Join
// have a faster rule.
func gatherRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if !p.needs(n, 0) {
		return nil
	}
	if p.partition(n) != nil {
		p.partitionBack(n)
		return nil
	}
	if j := p.join(n); j != nil {
		p.joinBack(j, dy)
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
	toFront, back := rotation(data.Rank(), axis, 1), make([]int64, data.Rank())
	for i, a := range toFront {
		back[a] = int64(i)
	}
	zeros := p.Transpose(p.zerosLike(data), toFront...)
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
	flat := p.rows(rows, zeros)
	at := p.ReshapeTo(idx, append([]int64{-1}, ones(zeros.Rank()-1)...)...)
	return p.ScatterElementsAdd(zeros, p.Expand(at, p.shapeOf(flat)), flat)
}

func ones(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// rows gives d, gathered from data along axis 0 with indices of any shape, the shape [indices, row of data].
func (p *pass) rows(d, data *onnx.Value) *onnx.Value {
	width, ok := data.Shape[1:].Sizes()
	if !ok {
		p.Fail("the gradient of Gather needs fixed sizes besides the gathered axis, not %v", data.Shape)
		return d
	}
	return p.ReshapeTo(d, append([]int64{-1}, width...)...)
}
