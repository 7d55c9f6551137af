package onnxfile

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/models/tokenizer"
	"rag-retrieval-go/ortrain/onnx"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An output of three dimensions that has no vector for each token is an error: pooling would read past its end.
func TestOutputThatIsNotOneVectorPerToken(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join("../embedding/testdata/tiny", tokenizer.File))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, tokenizer.File), b, 0o600))
	g := onnx.NewGraph("test")
	ids := g.Cast(g.Input(inputIDs, onnx.Int64, onnx.NamedDim("batch"), onnx.NamedDim("sequence")), onnx.Float32)
	g.Output("vectors", g.Unsqueeze(g.ReduceMean(ids, true, 1), 2)) // [batch, 1, 1]
	path := filepath.Join(dir, "model.onnx")
	check(t, g.Save(path))
	m, err := Open(path, modelcard.Embedding, scoring.Options{})
	check(t, err)
	defer m.Close()
	ranker, err := m.BiEncoder(m.QueryMaxLen, m.PassageMaxLen)
	check(t, err)
	_, err = scoring.RankAll(context.Background(), ranker, []scoring.Query{{Texts: []string{"a"}, Documents: []string{"b c"}}})
	if err == nil || !strings.Contains(err.Error(), "the output has the shape [2 1 1] for 2 texts of 4 tokens") {
		t.Error(err)
	}
}
