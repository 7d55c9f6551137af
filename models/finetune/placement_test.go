package finetune_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"rag-retrieval-go/ortrain/runtime"
	"rag-retrieval-go/ortrain/runtime/runtimetest"
)

// ran is a node that a profile saw run.
type ran struct{ op, name, provider string }

// profile reads ONNX Runtime's profiles whose names begin with prefix.
func profile(t *testing.T, prefix string) (nodes []ran) {
	t.Helper()
	paths, err := filepath.Glob(prefix + "*.json")
	check(t, err)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		check(t, err)
		var events []struct {
			Name string
			Args struct {
				Op       string `json:"op_name"`
				Provider string
			}
		}
		check(t, json.Unmarshal(b, &events))
		for _, e := range events {
			if name, ok := strings.CutSuffix(e.Name, "_kernel_time"); ok {
				nodes = append(nodes, ran{e.Args.Op, name, e.Args.Provider})
			}
		}
	}
	if len(nodes) == 0 {
		t.Fatalf("no node in %d profiles", len(paths))
	}
	return nodes
}

// A step on CUDA stays there.
func TestPlacement(t *testing.T) {
	runtimetest.NeedProvider(t)
	for _, f := range fixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "profile")
			step(t, f, prefix)
			seen := map[string]int{}
			for _, n := range profile(t, prefix) {
				if n.provider != "CUDAExecutionProvider" || strings.HasPrefix(n.op, "Memcpy") {
					seen[n.op+" "+n.provider+" "+n.name]++
				}
			}
			var all []string
			for k := range seen {
				all = append(all, k)
			}
			sort.Strings(all)
			for _, k := range all {
				t.Log(k)
			}
		})
	}
}

func step(t *testing.T, f fixture, prefix string) {
	t.Helper()
	task, tr := f.open(t, variant{groups: 2}, openDevice(t, runtime.Options{Provider: runtime.CUDA}), prefix)
	defer func() { check(t, tr.Close()) }()
	_, err := tr.Step(f.batch(t, task, -1))
	check(t, err)
}
