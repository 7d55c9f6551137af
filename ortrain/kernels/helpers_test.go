package kernels_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// operators counts the nodes of an ONNX file by operator.
func operators(t *testing.T, model []byte) map[string]int {
	t.Helper()
	m := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(model, m); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, n := range m.Graph.Node {
		count[n.OpType]++
	}
	return count
}
