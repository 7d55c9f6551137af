package onnx

import "fmt"

// Validate checks what a builder can get wrong: names used twice, values used before they are computed, outputs
// that nothing computes. It changes nothing.
func (g *Graph) Validate() error {
	if g.err != nil {
		return g.err
	}
	if len(g.Outputs) == 0 {
		return fmt.Errorf("graph %s has no outputs", g.Name)
	}
	names := map[string]bool{}
	known := map[*Value]bool{}
	add := func(v *Value) error {
		if v.Name == "" || names[v.Name] {
			return fmt.Errorf("graph %s: two values named %q", g.Name, v.Name)
		}
		names[v.Name], known[v] = true, true
		return nil
	}
	for _, v := range append(append([]*Value{}, g.Inputs...), g.Consts...) {
		if err := add(v); err != nil {
			return err
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && !known[v] {
				return fmt.Errorf("graph %s: node %s reads %q before it is computed", g.Name, n.Name, v.Name)
			}
		}
		for _, v := range n.Outputs {
			if err := add(v); err != nil {
				return err
			}
		}
	}
	for _, v := range g.Outputs {
		if !known[v] {
			return fmt.Errorf("graph %s: output %q is computed nowhere", g.Name, v.Name)
		}
	}
	return nil
}

// usedConsts are the constants that a node reads. Only these are written to a file.
func (g *Graph) usedConsts() []*Value {
	read := map[*Value]bool{}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			read[v] = true
		}
	}
	var used []*Value
	for _, v := range g.Consts {
		if read[v] {
			used = append(used, v)
		}
	}
	return used
}

// Prune removes nodes that no output depends on, such as parts of the backward pass nobody asked for.
func (g *Graph) Prune() {
	needed := map[*Value]bool{}
	for _, v := range g.Outputs {
		needed[v] = true
	}
	var kept []*Node
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		keep := false
		for _, v := range n.Outputs {
			keep = keep || needed[v]
		}
		if !keep {
			continue
		}
		for _, v := range n.Inputs {
			needed[v] = true
		}
		kept = append(kept, n)
	}
	for i, j := 0, len(kept)-1; i < j; i, j = i+1, j-1 {
		kept[i], kept[j] = kept[j], kept[i]
	}
	g.Nodes = kept
}
