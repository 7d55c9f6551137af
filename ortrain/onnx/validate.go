package onnx

import (
	"fmt"
	"slices"
)

// Validate returns the first error in building the graph. It also checks that names are unique, that values are
// computed before they are read, and that every output is computed. It does not change the graph.
func (g *Graph) Validate() error {
	if g.err != nil {
		return g.err
	}
	if len(g.Outputs) == 0 {
		return fmt.Errorf("graph %s has no outputs", g.Name)
	}
	names := map[string]bool{}
	defined := map[*Value]bool{}
	define := func(v *Value) error {
		if v.Name == "" || names[v.Name] {
			return fmt.Errorf("graph %s: two values named %q", g.Name, v.Name)
		}
		names[v.Name], defined[v] = true, true
		return nil
	}
	for _, v := range append(append([]*Value{}, g.Inputs...), g.Initializers...) {
		if err := define(v); err != nil {
			return err
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && !defined[v] {
				return fmt.Errorf("graph %s: node %s reads %q before it is computed", g.Name, n.Name, v.Name)
			}
		}
		for _, v := range n.Outputs {
			if err := define(v); err != nil {
				return err
			}
		}
	}
	for _, v := range g.Outputs {
		if !defined[v] {
			return fmt.Errorf("graph %s: no node computes the output %q", g.Name, v.Name)
		}
	}
	return nil
}

// usedInitializers returns the constants that a node reads. Only these are written to a file.
func (g *Graph) usedInitializers() []*Value {
	read := map[*Value]bool{}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			read[v] = true
		}
	}
	var used []*Value
	for _, v := range g.Initializers {
		if read[v] {
			used = append(used, v)
		}
	}
	return used
}

// Prune removes the nodes that no graph output depends on, such as parts of a backward pass for gradients that are not
// outputs.
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
	slices.Reverse(kept)
	g.Nodes = kept
}
