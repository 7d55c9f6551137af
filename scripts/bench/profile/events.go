package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// event is a record of ONNX Runtime's profile.
type event struct {
	Category string         `json:"cat"`
	Name     string         `json:"name"`
	Duration float64        `json:"dur"` // µs
	Args     map[string]any `json:"args"`
}

// profile is what ONNX Runtime recorded of a session, without its first runs.
type profile struct {
	nodes []event // operators, in the order in which they ran
	runs  int
	run   float64 // µs of all runs
}

// readProfile reads a profile and leaves out the first runs.
func readProfile(path string, skip int) (profile, error) {
	var p profile
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	var events []event
	if err := json.Unmarshal(b, &events); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	runs := 0
	for _, e := range events {
		if e.Name == "model_run" {
			if runs++; runs > skip {
				p.run += e.Duration
			}
			continue
		}
		// The record of a run comes after the records of its nodes.
		if runs >= skip && e.Category == "Node" && strings.HasSuffix(e.Name, "_kernel_time") {
			p.nodes = append(p.nodes, e)
		}
	}
	if p.runs = runs - skip; p.runs < 1 {
		return p, fmt.Errorf("%s has %d runs, want more than %d", path, runs, skip)
	}
	return p, nil
}

// operators returns the time of all operators in a run, in milliseconds.
func (p profile) operators() float64 {
	sum := 0.0
	for _, e := range p.nodes {
		sum += e.Duration
	}
	return sum / 1e3 / float64(p.runs)
}

func (e event) operator() string {
	op, _ := e.Args["op_name"].(string)
	return op
}

// flops returns the number of floating-point operations of a matrix product, or of those in attention, and 0 for other operators.
func flops(e event) float64 {
	op := e.operator()
	inputs, outputs := shapes(e.Args["input_type_shape"]), shapes(e.Args["output_type_shape"])
	if attention(op) {
		return attentionFLOPs(op, inputs)
	}
	if !product(op) || len(inputs) == 0 || len(outputs) == 0 || size(outputs[0]) == 0 {
		return 0
	}
	in, out := inputs[0], outputs[0]
	columns := out[len(out)-1]
	inner := size(in) * columns / size(out) // of a factor [rows, inner], transposed or not
	if op == "LinearGradient" {             // the gradients of input and weight
		return 4 * size(out) * inner
	}
	return 2 * size(out) * inner
}

// attentionFLOPs returns the operations of the products in attention: of queries [rows, heads, queries, size] and keys [rows, heads, keys, size].
func attentionFLOPs(op string, inputs [][]float64) float64 {
	products := 2.0 // scores, and the sum of values
	if op == "AttentionGradient" {
		products = 5 // scores again, and the gradients of probabilities, queries, keys and values
		inputs = inputs[min(1, len(inputs)):]
	}
	if len(inputs) < 2 || len(inputs[0]) != 4 || len(inputs[1]) != 4 {
		return 0
	}
	return 2 * products * size(inputs[0]) * inputs[1][2]
}

// attention says whether an operator is the kernel for attention, or for its gradient.
func attention(op string) bool { return op == "Attention" || op == "AttentionGradient" }

// product says whether an operator is a matrix product.
func product(op string) bool {
	return strings.HasSuffix(op, "Gemm") || strings.HasSuffix(op, "MatMul") || op == "Product" || op == "PackedProduct" || op == "LinearGradient"
}

// shapes returns the shapes of a list such as [{"float": [2, 3]}, …].
func shapes(list any) [][]float64 {
	all, _ := list.([]any)
	out := make([][]float64, len(all))
	for i, x := range all {
		typed, _ := x.(map[string]any)
		for _, dims := range typed {
			numbers, _ := dims.([]any)
			for _, n := range numbers {
				d, _ := n.(float64)
				out[i] = append(out[i], d)
			}
		}
	}
	return out
}

func size(shape []float64) float64 {
	n := 1.0
	for _, d := range shape {
		n *= d
	}
	return n
}

// label returns the name under which an event is counted: its operator, or its node without digits.
func label(e event, by string) string {
	if by == "op" {
		op := e.operator()
		if strings.Contains(e.Name, "backward") {
			return op + " (backward)"
		}
		return op
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, strings.TrimSuffix(e.Name, "_kernel_time"))
}
