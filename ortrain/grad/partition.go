package grad

import "rag-retrieval-go/ortrain/onnx"

// Packed tokens meet padded attention in two places: the rows of a tensor are gathered into padded groups (GatherParts),
// and the groups' rows are gathered back (JoinParts). The gradient of a Gather is a scatter, which is slow. In both places
// the host knows the inverse index, so that the gradient can be a Gather too.

// A Partition splits the rows of a tensor into parts, such as the attention groups. Five rows in two parts, padded (-):
//
//	data     a b c d e        part 0  [a c]        part 1  [b -]        concatenated:  a c d e b -
//	                                  [d e]                                            0 1 2 3 4 5
//	inverse  0 4 1 2 3        row b, for example, is at position 4 of the concatenated parts
//
// The gradient of data is a Gather from the concatenated gradients of the parts at inverse. A padding position may repeat
// any row; its gradient is never read.
type Partition struct {
	Parts []*onnx.Node
	// Inverse[i] is the position of row i in the concatenated outputs of the parts. If a row is at several positions,
	// Inverse is [rows, positions]. An entry equal to the number of all positions stands for a row of zeros.
	Inverse *onnx.Value
}

// GatherParts gathers rows of data, [rows, …], into parts. Part k has the shape of indices[k], followed by the dimensions
// of a row. inverse has the position of every row of data in the concatenated parts: int64 [rows], or [rows, positions] for
// rows that are at several positions, see Partition. Any further position of a part is padding: nothing may depend on it.
func GatherParts(g *onnx.Graph, data *onnx.Value, indices []*onnx.Value, inverse *onnx.Value) []*onnx.Value {
	if r := inverse.Rank(); r < 1 || r > 2 || data.Rank() == 0 || inverse.Shape[0] != data.Shape[0] {
		g.Fail("GatherParts: inverse has the shape %v, which does not fit data of shape %v", inverse.Shape, data.Shape)
	}
	p := &Partition{Inverse: inverse}
	out := make([]*onnx.Value, len(indices))
	for i, idx := range indices {
		out[i] = g.Gather(data, idx, 0)
		g.Annotate(partitionHint{out[i].Producer}, p)
		p.Parts = append(p.Parts, out[i].Producer)
	}
	return out
}

// A Join gathers rows from concatenated parts, each of them at most once. The gradient of a part is a Gather from the
// output's gradient, with zeros for the rows that were not read:
//
//	part 0  [a b c]     part 1  [d e]     concatenated  a b c d e     index  4 0 1     output  e a b
//	                                                    0 1 2 3 4
//	inverse 1 2 3       inverse 3 0       3, the length of the output, stands for a row of zeros: c and d are not read
type Join struct {
	Parts []*onnx.Value
	// Inverses[k][i] is the row of the output that was read from row i of part k. If there is none, because row i is
	// padding, it is the number of rows of the output.
	Inverses []*onnx.Value
}

// JoinParts concatenates parts, each [rows, …], and gathers the rows at index, int64 [n]. It returns [n, …]. No row may be
// read twice. inverses has an int64 [rows] for each part, see Join.
func JoinParts(g *onnx.Graph, parts []*onnx.Value, index *onnx.Value, inverses []*onnx.Value) *onnx.Value {
	out := g.Gather(g.Concat(0, parts...), index, 0)
	for i, p := range parts {
		if p.Rank() == 0 || !inverses[i].Shape.Equal(p.Shape[:1]) {
			g.Fail("JoinParts: inverse %d has the shape %v, which does not fit a part of shape %v", i, inverses[i].Shape, p.Shape)
		}
	}
	g.Annotate(joinHint{out.Producer}, &Join{Parts: parts, Inverses: inverses})
	return out
}

// Lookup looks up embeddings in a table, [vocabulary, width], in two steps. It gathers the distinct rows of the batch,
// int64 [d], and from these gathers the rows at indices, int64 of any shape. It returns the shape of indices, followed by
// width. inverse, int64 [vocabulary], has the place of each table row in distinct, or d where it does not occur.
//
// So the gradient is summed over the distinct rows, and the gradient of the large table is written once, not once for each
// token.
func Lookup(g *onnx.Graph, table, distinct, inverse, indices *onnx.Value) *onnx.Value {
	return g.Gather(JoinParts(g, []*onnx.Value{table}, distinct, []*onnx.Value{inverse}), indices, 0)
}

// partitionHasGradient reports whether n is the first part of a Partition and any of its parts has a gradient. The backward
// pass visits the first part last, when the gradients of all parts are complete. So its visit handles the whole Partition,
// even if the first part itself has no gradient.
func (p *pass) partitionHasGradient(n *onnx.Node) bool {
	part := p.partition(n)
	if part == nil || n != part.Parts[0] {
		return false
	}
	for _, m := range part.Parts {
		if p.contributions[m.Outputs[0]] != nil {
			return true
		}
	}
	return false
}

// partitionRule: with g = the concatenated gradients of the parts, ddata[i] = g[inverse[i]], or Σ over k of
// g[inverse[i, k]] for rows at several positions. It runs when the first part is visited, see partitionHasGradient.
func (p *pass) partitionRule(n *onnx.Node) {
	part := p.partition(n)
	if n != part.Parts[0] {
		return
	}
	grads := make([]*onnx.Value, len(part.Parts))
	for i, m := range part.Parts {
		d := p.gradient(m.Outputs[0])
		if d == nil {
			d = p.zerosLike(m.Outputs[0])
		}
		grads[i] = p.flattenRows(d, n.Inputs[0])
	}
	if part.Inverse.Rank() == 1 {
		p.accumulate(n, 0, p.Gather(p.Concat(0, grads...), part.Inverse, 0))
		return
	}
	grads = append(grads, p.zeroRow(grads[0]))
	p.accumulate(n, 0, p.ReduceSum(p.Gather(p.Concat(0, grads...), part.Inverse, 0), false, 1))
}

// joinRule: dpart[i] = dy[inverse[i]], where dy has a further row of zeros at its end for the rows that were not read. The
// zeros matter: with any other row there, the gradients would be wrong but still look plausible.
func (p *pass) joinRule(j *Join, dy *onnx.Value) {
	padded := p.Concat(0, dy, p.zeroRow(dy))
	for i, v := range j.Parts {
		if p.active[v] {
			p.contribute(v, p.Gather(padded, j.Inverses[i], 0))
		}
	}
}

// zeroRow returns one row of zeros, [1, dimensions of a row of v …].
func (p *pass) zeroRow(v *onnx.Value) *onnx.Value {
	width, ok := v.Shape[1:].Sizes()
	if !ok {
		p.Fail("the gradient of GatherParts or JoinParts needs rows of fixed size, not rows of %v", v.Shape)
	}
	return p.Const(onnx.Filled(v.DType, 0, append([]int64{1}, width...)...))
}
