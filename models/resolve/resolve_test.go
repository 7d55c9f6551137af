package resolve

import (
	"reflect"
	"testing"

	"rag-retrieval-go/internal/hub"
)

// Of several forms of the weights, one is fetched.
func TestModelFiles(t *testing.T) {
	names := func(files []hub.File) (out []string) {
		for _, f := range files {
			out = append(out, f.Name)
		}
		return out
	}
	files := func(names ...string) (out []hub.File) {
		for _, n := range names {
			out = append(out, hub.File{Name: n})
		}
		return out
	}
	for _, c := range []struct{ have, want []string }{
		{
			[]string{"README.md", "config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "1_Pooling/config.json", "tokenizer.json", "vocab.txt", "a/b/c.json", "tf_model.h5"},
			[]string{"config.json", "model.safetensors", "1_Pooling/config.json", "tokenizer.json", "vocab.txt"},
		},
		{
			[]string{"config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json", "colbert_linear.pt", "sparse_linear.pt"},
			[]string{"config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json", "colbert_linear.pt"},
		},
		{
			[]string{"model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "2_Dense/pytorch_model.bin", "2_Dense/config.json"},
			[]string{"model-00001-of-00002.safetensors", "model.safetensors.index.json", "2_Dense/pytorch_model.bin", "2_Dense/config.json"},
		},
		{ // an adapter
			[]string{"README.md", "adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "1_Pooling/config.json", "training_args.bin"},
			[]string{"adapter_config.json", "adapter_model.safetensors", "1_Pooling/config.json"},
		},
		{[]string{"adapter_config.json", "adapter_model.bin"}, []string{"adapter_config.json", "adapter_model.bin"}},
		{ // the prompt of a language model that is a reranker
			[]string{"config.json", "model.safetensors", "merges.txt", "chat_template.jinja", "1_LogitScore/config.json"},
			[]string{"config.json", "model.safetensors", "chat_template.jinja", "1_LogitScore/config.json"},
		},
	} {
		if got := names(modelFiles(files(c.have...))); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v, want %v", c.have, got, c.want)
		}
	}
}

func TestRemote(t *testing.T) {
	for ref, want := range map[string]bool{"BAAI/bge-m3": true, "org/name/train.jsonl": true, "org/name/sub/x.jsonl.gz": true, "../refs": false, "refs.go": false, "/no/such": false, "train.jsonl": false} {
		if Remote(ref) != want {
			t.Errorf("%s: %v", ref, !want)
		}
	}
}
