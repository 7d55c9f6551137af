package finetune_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

// ran is a node that ran, according to a profile.
type ran struct {
	name, op, provider string
	inputs, outputs    []map[string][]int64 // the shape of each, by its type
}

// profile reads the profiles of a number of sessions, whose names begin with prefix.
func profile(t *testing.T, prefix string, sessions int) (nodes []ran) {
	t.Helper()
	paths, err := filepath.Glob(prefix + "*.json")
	check(t, err)
	if len(paths) < sessions {
		t.Errorf("%d profiles, want at least %d", len(paths), sessions)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		check(t, err)
		var events []struct {
			Name string
			Args struct {
				Op       string `json:"op_name"`
				Provider string
				Inputs   []map[string][]int64 `json:"input_type_shape"`
				Outputs  []map[string][]int64 `json:"output_type_shape"`
			}
		}
		check(t, json.Unmarshal(b, &events))
		for _, e := range events {
			if name, ok := strings.CutSuffix(e.Name, "_kernel_time"); ok {
				nodes = append(nodes, ran{name, e.Args.Op, e.Args.Provider, e.Args.Inputs, e.Args.Outputs})
			}
		}
	}
	return nodes
}

// size says whether a node computes only a few numbers for shapes.
func (n ran) size() bool {
	for _, o := range n.outputs {
		shape, ok := o["int64"]
		if !ok || len(shape) > 1 || len(shape) == 1 && shape[0] > 8 {
			return false
		}
	}
	return len(n.outputs) > 0
}

// placed are the variants that run on the CUDA provider: every kind of graph in each precision.
var placed = []variant{
	{groups: 2, precision: "no"}, {groups: 2, chunkTokens: 5, checkpointing: true, precision: "no"},
	{groups: 2, precision: "fp16"}, {groups: 2, checkpointing: true, precision: "bf16"}, {groups: 1, chunkTokens: 5, precision: "bf16"},
	{groups: 2, precision: "fp16", fused: true}, {groups: 1, chunkTokens: 5, checkpointing: true, precision: "no", fused: true},
}

// dropping returns the fixture with dropout, if the variant supports it.
func (f fixture) dropping(v variant) fixture {
	if f.cfg.Dropout = 0.1; v.fused {
		f.cfg.Dropout = 0
	}
	return f
}

// placedFixtures are those whose graphs are placed on CUDA: one with adapters of each kind is enough.
func placedFixtures(t *testing.T) []fixture {
	t.Helper()
	adapters := slices.DeleteFunc(loraFixtures(t), func(f fixture) bool {
		return !slices.Contains([]string{"qwen3-infonce", "xlmr-contrastive", "modernbert-bce"}, f.name)
	})
	return slices.Concat(fixtures(t), cellFixtures(t), adapters)
}

// TestPlacement runs steps of every kind and loss on the CUDA provider. Every node runs there, except those that compute shapes,
// and no graph copies data to or from the host.
func TestPlacement(t *testing.T) {
	runtimetest.NeedProvider(t)
	for _, f := range placedFixtures(t) {
		for _, v := range f.of(t, placed) {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				prefix := filepath.Join(t.TempDir(), "profile")
				f.dropping(v).stepOnCUDA(t, v, prefix, false)
				checkPlacement(t, profile(t, prefix, 5), 200) // training and eval, or three of chunks; the optimizer's three
			})
		}
	}
}

// checkPlacement checks that at least this number of nodes runs on CUDA, and that nodes elsewhere compute only sizes.
func checkPlacement(t *testing.T, nodes []ran, least int) {
	t.Helper()
	computed := 0
	for _, n := range nodes {
		switch {
		case strings.HasPrefix(n.op, "Memcpy"):
			t.Errorf("%s copies between the host and the device: %v", n.name, n.outputs)
		case n.provider == "CUDAExecutionProvider":
			computed++
		case !n.size():
			t.Errorf("%s, a %s, runs on %s: %v", n.name, n.op, n.provider, n.outputs)
		}
	}
	if computed < least {
		t.Errorf("%d nodes ran on CUDA, of %d", computed, len(nodes))
	}
}

// TestScoringPlacement is TestPlacement for scoring graphs.
func TestScoringPlacement(t *testing.T) {
	runtimetest.NeedProvider(t)
	for _, x := range []struct {
		kind   modelcard.Kind
		folder string
	}{
		{modelcard.Embedding, "bert-dense"}, {modelcard.ColBERT, "bert"}, {modelcard.Reranker, "bert-reranker"},
		{modelcard.Embedding, "folders/modernbert-embedding"}, {modelcard.ColBERT, "folders/modernbert-colbert"}, {modelcard.Reranker, "folders/modernbert-reranker"},
		{modelcard.Embedding, "folders/qwen3-embedding"}, {modelcard.ColBERT, "folders/qwen3-colbert"},
		{modelcard.Reranker, "folders/qwen3-reranker"}, {modelcard.Reranker, "folders/qwen3-reranker-causal"},
	} {
		t.Run(fmt.Sprint(x.kind, " ", x.folder), func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "profile")
			score(t, x.kind, filepath.Join("testdata", x.folder), runtime.Options{Provider: runtime.CUDA, Profile: prefix})
			checkPlacement(t, profile(t, prefix, 1), 20)
		})
	}
}

// stepOnCUDA does a step of two micro-batches, computes an eval loss, and writes a profile of each session.
func (f fixture) stepOnCUDA(t *testing.T, v variant, prefix string, unoptimized bool) {
	t.Helper()
	o := openDevice(t, runtime.Options{Provider: runtime.CUDA})
	o.Profile, o.Unoptimized = prefix, unoptimized
	task, tr := f.open(t, v, o, prefix)
	defer func() { check(t, tr.Close()) }()
	b := f.batch(t, task, -1)
	_, err := tr.Step(append(b, f.batch(t, task, 0)...))
	check(t, err)
	_, err = tr.EvalLoss(b[0])
	check(t, err)
}

// operatorsFile lists the operators that ran in TestOperators on the CUDA provider, with the types of their first input and
// output. To update it: RAG_RETRIEVAL_UPDATE=1 scripts/cuda/fake.sh go test ./models/finetune -run TestOperators
const operatorsFile = "testdata/cuda_operators.txt"

// TestOperators compares every node of the training graphs with the list of operators that ran, unfused, on the CUDA provider.
// So any machine notices a graph that needs another operator. If the provider is there, the test runs the graphs and checks
// the list.
func TestOperators(t *testing.T) {
	known := cudaOperators(t)
	ranThere := map[string]bool{}
	for _, f := range placedFixtures(t) {
		for _, v := range f.of(t, placed) {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				f := f.dropping(v)
				for _, op := range f.operators(t, v) {
					if !known[op] && os.Getenv(updateVariable) == "" {
						t.Errorf("%q is not among the operators that ran on CUDA's provider, %s", op, operatorsFile)
					}
				}
				if !runtimetest.HasProvider() {
					return
				}
				prefix := filepath.Join(t.TempDir(), "profile")
				f.stepOnCUDA(t, v, prefix, true)
				for _, n := range profile(t, prefix, 5) {
					if strings.HasPrefix(n.op, "Memcpy") {
						t.Errorf("%s copies between the host and the device", n.name)
					}
					ranThere[n.op+" "+firstType(n.inputs)+" "+firstType(n.outputs)] = true
				}
			})
		}
	}
	if !runtimetest.HasProvider() {
		return
	}
	if os.Getenv(updateVariable) != "" {
		check(t, os.WriteFile(operatorsFile, []byte(strings.Join(slices.Sorted(maps.Keys(ranThere)), "\n")+"\n"), 0o644))
		return
	}
	for op := range known {
		if !ranThere[op] {
			t.Errorf("%q of %s did not run", op, operatorsFile)
		}
	}
}

// cudaOperators are the lines of operatorsFile.
func cudaOperators(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(operatorsFile)
	check(t, err)
	known := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		known[line] = true
	}
	return known
}

const updateVariable = "RAG_RETRIEVAL_UPDATE"

func firstType(values []map[string][]int64) string {
	for _, v := range values {
		for name := range v {
			return name
		}
	}
	return "none"
}

// operators returns the operators of the training graphs as operatorsFile names them.
func (f fixture) operators(t *testing.T, v variant) (out []string) {
	t.Helper()
	_, set := f.build(t, v)
	dir := t.TempDir()
	check(t, set.Write(dir))
	paths, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
	check(t, err)
	name := func(values []*onnx.Value) string {
		if len(values) == 0 {
			return "none"
		}
		if d := values[0].DType; d != onnx.Float32 {
			return d.String()
		}
		return "float"
	}
	for _, path := range paths {
		if set.Chunks != nil && filepath.Base(path) == artifact.TrainingFile {
			continue // does not run
		}
		g, err := onnx.Load(path)
		check(t, err)
		for _, n := range g.Nodes {
			out = append(out, n.Op+" "+name(n.Inputs)+" "+name(n.Outputs))
		}
	}
	return out
}
