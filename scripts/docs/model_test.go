package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/internal/safetensors"
)

// The size that cutModel leaves.
const (
	fewLayers = 1
	fewTokens = 4000
)

// cutModel writes a BERT model with only its first layers and tokens, so that a step with it is quick.
func cutModel(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.MkdirAll(to, 0o755))
	linkAll(t, from, to, "config.json", "model.safetensors", "tokenizer.json", "vocab.txt")
	edit(t, from, to, "config.json", func(config map[string]any) {
		config["num_hidden_layers"], config["vocab_size"] = fewLayers, fewTokens
	})
	edit(t, from, to, "tokenizer.json", func(file map[string]any) {
		vocabulary := file["model"].(map[string]any)["vocab"].(map[string]any)
		for token, id := range vocabulary {
			if id.(float64) >= fewTokens {
				delete(vocabulary, token)
			}
		}
	})
	f, err := safetensors.Open(filepath.Join(from, "model.safetensors"))
	check(t, err)
	defer f.Close()
	var kept []safetensors.Tensor
	for _, x := range f.Tensors {
		if strings.Contains(x.Name, "encoder.layer.") && !strings.Contains(x.Name, "encoder.layer.0.") {
			continue
		}
		if strings.HasSuffix(x.Name, "word_embeddings.weight") {
			x.Data = x.Data[:len(x.Data)/int(x.Shape[0])*fewTokens]
			x.Shape = []int64{fewTokens, x.Shape[1]}
		}
		kept = append(kept, x)
	}
	check(t, safetensors.Write(filepath.Join(to, "model.safetensors"), f.Metadata, kept))
}

// edit writes a changed copy of a JSON file.
func edit(t *testing.T, from, to, name string, change func(file map[string]any)) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, name))
	check(t, err)
	file := map[string]any{}
	check(t, json.Unmarshal(b, &file))
	change(file)
	b, err = json.Marshal(file)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(to, name), b, 0o644))
}
