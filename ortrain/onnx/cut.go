package onnx

import "slices"

// Cut divides a finished graph into one of its first n nodes and one of the others. first computes outputs, and the float values
// that rest reads, which it returns as kept; they are outputs of first and inputs of rest. Both graphs have all inputs of g, rest
// has its outputs. Integer values that rest needs, such as shapes, are computed again there: they are cheap, and on a GPU most lie
// on the host. An output must not be a value that rest reads. g must not be changed afterwards.
func (g *Graph) Cut(n int, outputs ...*Value) (first, rest *Graph, kept []*Value) {
	byFirst := map[*Value]bool{}
	for _, node := range g.Nodes[:n] {
		for _, v := range node.Outputs {
			byFirst[v] = true
		}
	}
	again := map[*Node]bool{} // nodes of first that rest has too
	var need func(node *Node)
	need = func(node *Node) {
		for _, v := range node.Inputs {
			switch {
			case v == nil || !byFirst[v]:
			case v.DType.IsFloat():
				if !slices.Contains(kept, v) {
					kept = append(kept, v)
				}
			case !again[v.Producer]:
				again[v.Producer] = true
				need(v.Producer)
			}
		}
	}
	for _, node := range g.Nodes[n:] {
		need(node)
	}
	for _, k := range g.kernels { // a kernel of rest may read more than the nodes that it replaces
		if slices.ContainsFunc(k.Outputs, func(v *Value) bool { return v != nil && !byFirst[v] }) {
			need(&Node{Inputs: k.Inputs})
		}
	}
	a, b := *g, *g
	a.Nodes, a.Outputs = slices.Clone(g.Nodes[:n]), append(slices.Clone(outputs), kept...)
	b.Nodes = nil
	for i, node := range g.Nodes {
		if i >= n || again[node] {
			b.Nodes = append(b.Nodes, node)
		}
	}
	b.Inputs = append(slices.Clone(g.Inputs), kept...)
	return &a, &b, kept
}
