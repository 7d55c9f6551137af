package merge_test

import (
	"path/filepath"
	"slices"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/config"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain/runtime"
)

// numbers is a tensor of small numbers that are not 0.
func numbers(name string, dims ...int64) safetensors.Tensor {
	size := int64(1)
	for _, d := range dims {
		size *= d
	}
	values := make([]float32, size)
	for i := range values {
		values[i] = float32((i*7+len(name))%11-5) / 40
	}
	return safetensors.FromFloat32(name, values, dims...)
}

// low are the two matrices of a module with weight [out, in], of rank 3.
func low(module string, out, in int64) []safetensors.Tensor {
	return []safetensors.Tensor{numbers(module+hf.LoraA, 3, in), numbers(module+hf.LoraB, out, 3)}
}

// peftFolder writes an adapter as another program does.
func peftFolder(t *testing.T, base, task string, targets, saved []string, tensors []safetensors.Tensor) string {
	t.Helper()
	base, err := filepath.Abs(base)
	check(t, err)
	dir := t.TempDir()
	check(t, hf.WriteAdapter(dir, hf.AdapterConfig{Base: base, TaskType: task, Rank: 3, Alpha: 6, Targets: targets}, saved, tensors))
	return dir
}

// trainFurther trains an adapter further with a learning rate of almost nothing: what is saved must have the adapter's scores and base.
func trainFurther(t *testing.T, kind modelcard.Kind, first string, maxLen int) string {
	t.Helper()
	same, err := train(t, kind, first, func(c *config.Train) { c.LR, c.MaxLen = 1e-30, maxLen })
	check(t, err)
	if d := distance(scoresOf(t, first), scoresOf(t, same)); d > 1e-5 {
		t.Errorf("trained further with a learning rate of almost nothing, scores change by %g", d)
	}
	if was, is := adapterConfig(t, first).Base, adapterConfig(t, same).Base; is != was {
		t.Errorf("the base is %s, was %s", is, was)
	}
	return same
}

// Of every kind, an adapter that was trained here is trained further, and that one again.
func TestOwnAdaptersAreTrainedFurther(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	for _, x := range []struct {
		model string
		kind  modelcard.Kind
	}{
		{"modernbert-embedding", modelcard.Embedding}, {"qwen3-colbert", modelcard.ColBERT}, {"modernbert-reranker", modelcard.Reranker},
		{"qwen3-embedding", modelcard.Reranker}, {"qwen3-reranker-causal", modelcard.Reranker},
	} {
		t.Run(x.model+" as "+string(x.kind), func(t *testing.T) {
			first, err := train(t, x.kind, folders+x.model, func(c *config.Train) { c.MaxSteps = 1 })
			check(t, err)
			again := trainFurther(t, x.kind, trainFurther(t, x.kind, first, 400), 400)
			if was, is := adapterConfig(t, first), adapterConfig(t, again); is.Task != was.Task || !slices.Equal(is.Targets, was.Targets) || !slices.Equal(is.Saved, was.Saved) {
				t.Errorf("%+v, was %+v", is, was)
			}
		})
	}
}

// Adapters of PEFT are trained further with what they have in the head, and with some of the layers only.
func TestAdaptersOfPEFTAreTrainedFurther(t *testing.T) {
	t.Setenv(runtime.HomeVariable, t.TempDir())
	const modern, qwen, bert = folders + "modernbert-reranker", folders + "qwen3-reranker", "../finetune/testdata/bert-reranker"
	for name, x := range map[string]struct {
		base           string
		maxLen         int
		targets, saved []string
		tensors        []safetensors.Tensor
		want           []string // target_modules of what is saved
	}{
		"all linear layers, as PEFT counts them": {
			modern, 400, []string{"Wi", "Wo", "Wqkv", "dense"}, []string{"classifier"},
			slices.Concat(low("model.layers.0.attn.Wqkv", 60, 20), low("model.layers.2.mlp.Wo", 20, 26), low("head.dense", 20, 20), []safetensors.Tensor{numbers("classifier.weight", 1, 20), numbers("classifier.bias", 1)}),
			[]string{"0.attn.Wqkv", "2.mlp.Wo"},
		},
		"a pooler": {
			bert, 20, []string{"key", "dense"}, []string{"classifier"},
			slices.Concat(low("bert.encoder.layer.0.attention.self.key", 24, 24), low("bert.encoder.layer.1.attention.self.key", 24, 24), low("bert.pooler.dense", 24, 24), []safetensors.Tensor{numbers("classifier.weight", 1, 24), numbers("classifier.bias", 1)}),
			[]string{"key"},
		},
		"a whole head": {
			modern, 400, []string{"Wi"}, []string{"head"},
			slices.Concat(low("model.layers.0.mlp.Wi", 52, 20), []safetensors.Tensor{numbers("head.dense.weight", 20, 20), numbers("head.norm.weight", 20)}), []string{"0.mlp.Wi"},
		},
		"a layer": {qwen, 400, []string{"q_proj"}, []string{"score"}, append(low("model.layers.1.self_attn.q_proj", 24, 20), numbers("score.weight", 1, 20)), []string{"1.self_attn.q_proj"}},
	} {
		t.Run(name, func(t *testing.T) {
			first := peftFolder(t, x.base, hf.SequenceClassification, x.targets, x.saved, x.tensors)
			if d := distance(scoresOf(t, x.base), scoresOf(t, first)); d < 1e-4 {
				t.Errorf("the adapter changes scores by only %g", d)
			}
			if got := adapterConfig(t, trainFurther(t, modelcard.Reranker, first, x.maxLen)).Targets; !slices.Equal(got, x.want) {
				t.Errorf("target_modules %q, want %q", got, x.want)
			}
		})
	}
}
