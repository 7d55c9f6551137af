package onnx

import (
	"testing"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// A file of unknown origin is an error where a node lacks inputs or they contradict each other. It never panics.
func TestMalformedNodesAreErrors(t *testing.T) {
	ints := func(name string, values ...int64) *onnxpb.TensorProto {
		return &onnxpb.TensorProto{Name: name, DataType: int32(Int64), Dims: []int64{int64(len(values))}, Int64Data: values}
	}
	constants := []*onnxpb.TensorProto{
		ints("x", 4, 5, 6), ints("zero", 0), ints("two", 2), ints("twice", 0, 0), ints("bounds", 1, 2),
		{Name: "scalar", DataType: int32(Float32), FloatData: []float32{1}},
	}
	node := func(op string, inputs ...string) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: op, Input: inputs, Output: []string{"y"}}
	}
	load := func(n *onnxpb.NodeProto) error {
		_, err := FromProto(&onnxpb.ModelProto{Graph: &onnxpb.GraphProto{
			Initializer: constants, Node: []*onnxpb.NodeProto{n}, Output: []*onnxpb.ValueInfoProto{{Name: "y"}},
		}})
		return err
	}
	withoutTensor := node("ConstantOfShape", "two")
	withoutTensor.Attribute = []*onnxpb.AttributeProto{{Name: "value", Type: onnxpb.AttributeProto_TENSOR}}
	fill := node("ConstantOfShape", "scalar")
	fill.Attribute = []*onnxpb.AttributeProto{{Name: "value", Type: onnxpb.AttributeProto_TENSOR, T: constants[0]}}
	malformed := []*onnxpb.NodeProto{
		node("Slice", "x", "zero", "two", "twice"), node("Slice", "x", "zero"), node("Slice", "x", "zero", "two", "zero", "two"),
		node("Unsqueeze", "x"), node("Unsqueeze", "x", "twice"), node("LayerNormalization", "scalar", "scalar"),
		withoutTensor, fill, {OpType: "Shape", Input: []string{"x"}},
	}
	for op := range inference {
		malformed = append(malformed, node(op))
		if minInputs[op] > 1 {
			malformed = append(malformed, node(op, "x"))
		}
	}
	for _, n := range malformed {
		if err := load(n); err == nil {
			t.Errorf("%s of %q was accepted", n.OpType, n.Input)
		}
	}
	for _, n := range []*onnxpb.NodeProto{node("Slice", "x", "zero", "two", "zero"), node("Slice", "x", "two", "zero", "zero"), node("Unsqueeze", "x", "zero")} {
		check(t, load(n)) // also a slice whose end is before its start: it is empty
	}
}
