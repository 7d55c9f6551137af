package kernels_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx/onnxpb"
	"rag-retrieval-go/ortrain/runtime"
)

// substitute puts the kernels for a unit into a graph.
func substitute(t *testing.T, model []byte, unit kernels.Unit) *kernels.Graph {
	t.Helper()
	g, err := kernels.Substitute(model, kernels.Options{Unit: unit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Packed.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// bind opens a session of a graph, and a binding of it. Both are closed with the test.
func bind(t testing.TB, model []byte, o runtime.Options) *runtime.Binding {
	t.Helper()
	s, err := runtime.NewSession(model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b, err := s.NewBinding()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

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
