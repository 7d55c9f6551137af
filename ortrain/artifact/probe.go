package artifact

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx"
)

// Probe is a graph that computes which values of another graph are not finite, to find the cause of an overflow.
type Probe struct {
	Model []byte
	// Nodes names the nodes whose values are probed, in the order of computation. The output FiniteOutput, of shape
	// [len(Nodes)], is 0 for a node whose value is finite and NaN for the others.
	Nodes []string
}

// FiniteOutput is a probe's output.
const FiniteOutput = "finite"

// Probe makes the probe of the graph with this file name. It has the same inputs as that graph.
func (s *Set) Probe(file string) (*Probe, error) {
	f, ok := map[string]builder{
		TrainingFile: training, EncodeFile: encoding, LossFile: lossOfRows, CompareFile: comparison, BackwardFile: encodingBackward,
	}[file]
	if !ok {
		return nil, fmt.Errorf("%s has no probe", file)
	}
	g, _, err := f(s.model)
	if err != nil {
		return nil, err
	}
	p := &Probe{}
	var flags []*onnx.Value
	for _, n := range append([]*onnx.Node{}, g.Nodes...) {
		v := n.Outputs[0]
		if !v.DType.IsFloat() || v.Const != nil {
			continue
		}
		p.Nodes = append(p.Nodes, n.Name)
		if v.DType != onnx.Float32 {
			v = g.Cast(v, onnx.Float32)
		}
		// x · 0 is NaN if x is infinite or NaN, and 0 for every other x.
		flags = append(flags, g.Unsqueeze(g.ReduceSum(g.Mul(v, g.Scalar(v, 0)), false), 0))
	}
	g.Output(FiniteOutput, g.Concat(0, flags...))
	g.Outputs = g.Outputs[len(g.Outputs)-1:]
	p.Model, err = g.Bytes()
	return p, err
}
