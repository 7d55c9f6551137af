package finetune_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

// ran is a node that a profile saw run.
type ran struct {
	name, op, provider string
	outputs            []map[string][]int64 // the shape of each, by its type
}

// profile reads ONNX Runtime's profiles whose names begin with prefix.
func profile(t *testing.T, prefix string) (nodes []ran) {
	t.Helper()
	paths, err := filepath.Glob(prefix + "*.json")
	check(t, err)
	if len(paths) < 5 { // training and eval or three graphs of chunks, and the optimizer's three
		t.Errorf("%d profiles", len(paths))
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		check(t, err)
		var events []struct {
			Name string
			Args struct {
				Op       string `json:"op_name"`
				Provider string
				Outputs  []map[string][]int64 `json:"output_type_shape"`
			}
		}
		check(t, json.Unmarshal(b, &events))
		for _, e := range events {
			if name, ok := strings.CutSuffix(e.Name, "_kernel_time"); ok {
				nodes = append(nodes, ran{name, e.Args.Op, e.Args.Provider, e.Args.Outputs})
			}
		}
	}
	return nodes
}

// size says whether a node computes nothing but a few numbers that shapes are made of.
func (n ran) size() bool {
	for _, o := range n.outputs {
		shape, ok := o["int64"]
		if !ok || len(shape) > 1 || len(shape) == 1 && shape[0] > 8 {
			return false
		}
	}
	return len(n.outputs) > 0
}

// TestPlacement runs steps of every kind and loss on CUDA's provider: every node runs there but for those that compute
// shapes, and nothing is copied to or from the host within a graph.
func TestPlacement(t *testing.T) {
	runtimetest.NeedProvider(t)
	for _, f := range fixtures(t) {
		for _, v := range []variant{
			{2, 0, false, "no", ""}, {2, 5, true, "no", ""}, {2, 0, false, "fp16", ""}, {2, 0, true, "bf16", ""}, {1, 5, false, "bf16", ""},
		} {
			t.Run(fmt.Sprintf("%s/%+v", f.name, v), func(t *testing.T) {
				f := f
				f.cfg.Dropout = 0.1
				prefix := filepath.Join(t.TempDir(), "profile")
				f.stepOnCUDA(t, v, prefix)
				nodes := profile(t, prefix)
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
				if computed < 200 {
					t.Errorf("%d nodes ran on CUDA, of %d", computed, len(nodes))
				}
			})
		}
	}
}

// stepOnCUDA does a step of two micro-batches and measures a loss, and writes a profile of each session.
func (f fixture) stepOnCUDA(t *testing.T, v variant, prefix string) {
	t.Helper()
	o := openDevice(t, runtime.Options{Provider: runtime.CUDA})
	o.Profile = prefix
	task, tr := f.open(t, v, o, prefix)
	defer func() { check(t, tr.Close()) }()
	b := f.batch(t, task, -1)
	_, err := tr.Step(append(b, f.batch(t, task, 0)...))
	check(t, err)
	_, err = tr.EvalLoss(b[0])
	check(t, err)
}
