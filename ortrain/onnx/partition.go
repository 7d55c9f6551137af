package onnx

// Packed tokens meet padded attention in two places: rows are gathered into padded groups, and the groups' rows are
// gathered back. In both the host knows the opposite index, which makes the gradient a Gather instead of a scatter.

// Partition is a set of Gathers along axis 0 of one value that together read every row of it once. Further rows that
// they read are padding, whose gradient does not count.
type Partition struct {
	Parts []*Node
	// Inverse[i] is the place of row i in the parts' outputs, laid end to end.
	Inverse *Value
}

// GatherParts gathers rows of data into parts. Every row of data stands in exactly one part, where inverse says;
// padding may repeat any row.
func (g *Graph) GatherParts(data *Value, indices []*Value, inverse *Value) []*Value {
	if inverse.Rank() != 1 || data.Rank() == 0 || inverse.Shape[0] != data.Shape[0] {
		g.Fail("GatherParts: an inverse index of shape %v for data of shape %v", inverse.Shape, data.Shape)
	}
	p := &Partition{Inverse: inverse}
	out := make([]*Value, len(indices))
	for i, idx := range indices {
		out[i] = g.Gather(data, idx, 0)
		out[i].Producer.Partition = p
		p.Parts = append(p.Parts, out[i].Producer)
	}
	return out
}

// Join is a Gather along axis 0 from parts laid end to end.
type Join struct {
	Concat *Node // lays the parts end to end; nil for a single part
	Parts  []*Value
	// Inverses[k][i] is the row of the output that reads row i of part k, or the number of rows of the output
	// where none does: padding, whose gradient is zero.
	Inverses []*Value
}

// JoinParts gathers rows from parts, laid end to end, at index. No row is read twice.
func (g *Graph) JoinParts(parts []*Value, index *Value, inverses []*Value) *Value {
	joined := g.Concat(0, parts...)
	out := g.Gather(joined, index, 0)
	j := &Join{Parts: parts, Inverses: inverses}
	if len(parts) > 1 {
		j.Concat = joined.Producer
	}
	for i, p := range parts {
		if p.Rank() == 0 || !inverses[i].Shape.Equal(p.Shape[:1]) {
			g.Fail("JoinParts: an inverse index of shape %v for a part of shape %v", inverses[i].Shape, p.Shape)
		}
	}
	out.Producer.Join = j
	return out
}

// Lookup gathers rows of a table: indices pick from the distinct rows that occur, and places has for each row of the
// table its place among them, or their number where it does not occur. The gradient is summed over the distinct rows
// alone, and written to the table once.
func (g *Graph) Lookup(table, distinct, places, indices *Value) *Value {
	return g.Gather(g.JoinParts([]*Value{table}, distinct, []*Value{places}), indices, 0)
}
