package grad

import "rag-retrieval-go/ortrain/onnx"

// Packed tokens meet padded attention in two places: the rows of a tensor are gathered into padded groups, and the groups'
// rows are gathered back. The gradient of a Gather is a scatter, which is slow, and on duplicate indices the CPU provider
// gets it wrong. In both places the host knows the opposite index, so that the gradient can be a Gather too.

// A Partition splits the rows of a tensor into parts, such as the attention groups. Five rows in two parts, padded (-):
//
//	data     a b c d e        part 0  [a c]        part 1  [b -]        laid end to end:  a c d e b -
//	                                  [d e]                                               0 1 2 3 4 5
//	inverse  0 4 1 2 3        row b, for example, stands at place 4 of the parts laid end to end
//
// The gradient of data is that of the parts laid end to end, gathered at inverse. Padding repeats any row; its gradient is
// never read.
type Partition struct {
	Parts []*onnx.Node
	// Inverse[i] is the place of row i in the parts' outputs, laid end to end. Where a row stands in several places it is
	// [rows, places]; an entry that is the number of all places adds nothing.
	Inverse *onnx.Value
}

// GatherParts gathers rows of data, [rows, …], into parts: part k has the shape of indices[k] with a row's dimensions
// behind. Every row of data stands where inverse says, an int64 [rows], or [rows, places] for rows that stand in several
// places. Any other row that a part reads is padding: nothing may depend on it.
func GatherParts(g *onnx.Graph, data *onnx.Value, indices []*onnx.Value, inverse *onnx.Value) []*onnx.Value {
	if r := inverse.Rank(); r < 1 || r > 2 || data.Rank() == 0 || inverse.Shape[0] != data.Shape[0] {
		g.Fail("GatherParts: an inverse index of shape %v for data of shape %v", inverse.Shape, data.Shape)
	}
	p := &Partition{Inverse: inverse}
	out := make([]*onnx.Value, len(indices))
	for i, idx := range indices {
		out[i] = g.Gather(data, idx, 0)
		g.Annotate(partition{out[i].Producer}, p)
		p.Parts = append(p.Parts, out[i].Producer)
	}
	return out
}

// A Join gathers rows from parts laid end to end. Its gradient in a part is a Gather of the rows that were read from it,
// with zeros for the rows that nothing read.
type Join struct {
	Parts []*onnx.Value
	// Inverses[k][i] is the row of the output that reads row i of part k, or the number of rows of the output
	// where none does: padding, whose gradient is zero.
	Inverses []*onnx.Value
}

// JoinParts lays parts, each [rows, …], end to end and gathers the rows at index, int64 [n]. No row is read twice.
// inverses has for each part an int64 [rows], see Join.
func JoinParts(g *onnx.Graph, parts []*onnx.Value, index *onnx.Value, inverses []*onnx.Value) *onnx.Value {
	out := g.Gather(g.Concat(0, parts...), index, 0)
	for i, p := range parts {
		if p.Rank() == 0 || !inverses[i].Shape.Equal(p.Shape[:1]) {
			g.Fail("JoinParts: an inverse index of shape %v for a part of shape %v", inverses[i].Shape, p.Shape)
		}
	}
	g.Annotate(join{out.Producer}, &Join{Parts: parts, Inverses: inverses})
	return out
}

// Lookup gathers rows of a table of embeddings, [rows, width]. distinct, int64 [d], are the rows that occur in the batch;
// indices pick from these; places, int64 [rows], has for each row of the table its place in distinct, or d where it does
// not occur. The gradient is summed over the distinct rows and written to the table once, instead of once for each token.
func Lookup(g *onnx.Graph, table, distinct, places, indices *onnx.Value) *onnx.Value {
	return g.Gather(JoinParts(g, []*onnx.Value{table}, distinct, []*onnx.Value{places}), indices, 0)
}

// pending says whether n is the first part of a Partition of which some part has a gradient: the backward pass visits it
// last, so that all of them have arrived.
func (p *pass) pending(n *onnx.Node) bool {
	part := p.partition(n)
	if part == nil || n != part.Parts[0] {
		return false
	}
	for _, m := range part.Parts {
		if p.parts[m.Outputs[0]] != nil {
			return true
		}
	}
	return false
}

// partitionBack lays the parts' gradients end to end and reads each row's where the inverse index says.
func (p *pass) partitionBack(n *onnx.Node) {
	part := p.partition(n)
	if n != part.Parts[0] {
		return // see pending
	}
	grads := make([]*onnx.Value, len(part.Parts))
	for i, m := range part.Parts {
		d := p.total(m.Outputs[0])
		if d == nil {
			d = p.zerosLike(m.Outputs[0])
		}
		grads[i] = p.rows(d, n.Inputs[0])
	}
	if part.Inverse.Rank() == 1 {
		p.add(n, 0, p.Gather(p.Concat(0, grads...), part.Inverse, 0))
		return
	}
	grads = append(grads, p.zeroRow(grads[0]))
	p.add(n, 0, p.ReduceSum(p.Gather(p.Concat(0, grads...), part.Inverse, 0), false, 1))
}

// joinBack gives each part its rows' gradients. Rows that nothing read get a row of zeros: any other row there would
// give wrong gradients that still look plausible.
func (p *pass) joinBack(j *Join, dy *onnx.Value) {
	padded := p.Concat(0, dy, p.zeroRow(dy))
	for i, v := range j.Parts {
		if p.active[v] {
			p.parts[v] = append(p.parts[v], p.Gather(padded, j.Inverses[i], 0))
		}
	}
}

// zeroRow is one row of zeros for a value of fixed width.
func (p *pass) zeroRow(v *onnx.Value) *onnx.Value {
	width, ok := v.Shape[1:].Sizes()
	if !ok {
		p.Fail("rows of %v have no fixed size", v.Shape)
	}
	return p.Const(onnx.Filled(v.DType, 0, append([]int64{1}, width...)...))
}
