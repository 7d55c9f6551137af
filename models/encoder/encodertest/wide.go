package encodertest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/onnx"
)

// Wide is the folder of a BERT of random weights whose layers are wide enough to be quantized, with this vocabulary of 138 words.
func Wide(t *testing.T, vocabulary string) string {
	t.Helper()
	const hidden, wide, words, positions = 64, 128, 138, 20
	dir := t.TempDir()
	config := fmt.Sprintf(`{"model_type":"bert","architectures":["BertModel"],"hidden_act":"gelu","hidden_size":%d,"intermediate_size":%d,
"num_attention_heads":4,"num_hidden_layers":2,"vocab_size":%d,"max_position_embeddings":%d,"type_vocab_size":2,"layer_norm_eps":1e-12}`,
		hidden, wide, words, positions)
	vocab, err := os.ReadFile(vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"config.json": config, "vocab.txt": string(vocab)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	var tensors []safetensors.Tensor
	add := func(name string, scale, mean float64, dims ...int64) {
		values := make([]float32, onnx.Elements(dims))
		for i := range values {
			values[i] = float32(mean + scale*r.NormFloat64())
		}
		tensors = append(tensors, safetensors.FromFloat32(name, values, dims...))
	}
	norm := func(name string) {
		add(name+".LayerNorm.weight", 0.1, 1, hidden)
		add(name+".LayerNorm.bias", 0.1, 0, hidden)
	}
	linear := func(name string, out, in int64) {
		add(name+".weight", 0.1, 0, out, in)
		add(name+".bias", 0.1, 0, out)
	}
	add("embeddings.word_embeddings.weight", 1, 0, words, hidden)
	add("embeddings.position_embeddings.weight", 0.1, 0, positions, hidden)
	add("embeddings.token_type_embeddings.weight", 0.1, 0, 2, hidden)
	norm("embeddings")
	for i := range 2 {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		for _, part := range []string{"query", "key", "value"} {
			linear(layer+"attention.self."+part, hidden, hidden)
		}
		linear(layer+"attention.output.dense", hidden, hidden)
		norm(layer + "attention.output")
		linear(layer+"intermediate.dense", wide, hidden)
		linear(layer+"output.dense", hidden, wide)
		norm(layer + "output")
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), nil, tensors); err != nil {
		t.Fatal(err)
	}
	return dir
}
