package retriever_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/flat"
)

// A text has the same vectors and scores whatever texts it shares a batch with, and however many threads compute: to 1e-6, and with int8
// to the last bit. Int8 has no tolerance, because the smallest difference may round an activation the other way, in every layer again.
func TestScoresDoNotDependOnCompany(t *testing.T) {
	configs, err := filepath.Glob(fixtures + "*/config.json")
	check(t, err)
	for _, config := range configs {
		t.Run(filepath.Base(filepath.Dir(config)), func(t *testing.T) {
			checkCompany(t, filepath.Dir(config), retriever.Options{}, 1e-6)
		})
	}
	for _, name := range []string{"bert", "xlmr", "qwen3"} {
		t.Run("int8 "+name, func(t *testing.T) { checkCompany(t, wide(t, fixtures+name), retriever.Options{Int8: true}, 0) })
	}
	const miniLM = "../../.rag-retrieval/models/all-MiniLM-L6-v2"
	t.Run("int8 all-MiniLM-L6-v2", func(t *testing.T) {
		if _, err := os.Stat(miniLM); err != nil {
			t.Skip(err)
		}
		checkCompany(t, miniLM, retriever.Options{Int8: true}, 0)
	})
}

// wide is a folder of a fixture's architecture with random weights, whose layers are wide enough to be quantized.
func wide(t *testing.T, fixture string) string {
	t.Helper()
	var config map[string]any
	b, err := os.ReadFile(filepath.Join(fixture, "config.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &config))
	config["hidden_size"], config["intermediate_size"], config["num_attention_heads"], config["max_position_embeddings"] = 64, 128, 2, 130
	if config["head_dim"] != nil {
		config["head_dim"], config["num_key_value_heads"] = 32, 1
	}
	if b, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	dir := encodertest.Folder(t, fixture, map[string]string{"config.json": string(b), "colbert_linear.pt": ""})
	c, err := encoder.LoadConfig(dir)
	check(t, err)
	l, err := flat.NewLayout(c.Params())
	check(t, err)
	values, r := make([]float32, l.Total), rand.New(rand.NewPCG(5, 6))
	for i := range values {
		values[i] = float32(0.3 * r.NormFloat64())
	}
	tensors, err := hf.FromLayout(l, values, c.Params(), c.NewNaming().Tensors)
	check(t, err)
	check(t, safetensors.Write(filepath.Join(dir, hf.SafetensorsFile), nil, tensors))
	return dir
}

func checkCompany(t *testing.T, dir string, o retriever.Options, tolerance float64) {
	one := open(t, dir, o) // with one thread
	o.Threads = 2
	m, err := retriever.Open(t.Context(), dir, o)
	check(t, err)
	defer func() { check(t, m.Close()) }()
	r := rand.New(rand.NewPCG(1, 2))
	texts := make([]string, 24)
	for i := range texts {
		for range 1 + r.IntN(20) {
			texts[i] += strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(3)) + " "
		}
	}
	alone := make([][]float32, len(texts))
	for i, x := range texts {
		alone[i] = valuesOf(t, one, x)[0]
	}
	for range 8 {
		company := r.Perm(len(texts))[:2+r.IntN(len(texts)-2)]
		some := make([]string, len(company))
		for k, i := range company {
			some[k] = texts[i]
		}
		for k, values := range valuesOf(t, m, some...) {
			for j, x := range values {
				if want := alone[company[k]][j]; !(math.Abs(float64(x)-float64(want)) <= tolerance) {
					t.Fatalf("value %d of text %d is %g alone and %g among %d texts", j, company[k], want, x, len(some))
				}
			}
		}
	}
}

// valuesOf are the texts' vectors, or their scores for a query where the model makes no vectors.
func valuesOf(t *testing.T, m *retriever.Model, texts ...string) (out [][]float32) {
	e, err := m.Embedder()
	if err != nil {
		scores, err := m.Scores(t.Context(), "a query", texts...)
		check(t, err)
		for x := range slices.Chunk(scores, 1) {
			out = append(out, x)
		}
		return out
	}
	embeddings, err := e.Encode(t.Context(), prompt.Texts(false, texts...), retriever.EncodeOptions{})
	check(t, err)
	for _, x := range embeddings {
		out = append(out, x.Values)
	}
	return out
}

// Calls that a queue runs at once, with all threads or half of them, get what each would get alone.
func TestConcurrentRuns(t *testing.T) {
	texts := []string{"a", "a b c d", "如何 重置 a b", strings.Repeat("e f ", 9), "苹果 1 2", "密码"}
	for _, name := range []string{"bert", "modernbert", "bert-reranker"} {
		plain := open(t, fixtures+name, retriever.Options{})
		m, err := retriever.Open(t.Context(), fixtures+name, retriever.Options{Threads: 2, Queue: &scoring.QueueOptions{Runs: 2, BatchTokens: 16}})
		check(t, err)
		var calls sync.WaitGroup
		for i := range 24 {
			calls.Go(func() {
				some := texts[i%len(texts):]
				want, got := valuesOf(t, plain, some...), valuesOf(t, m, some...)
				for k := range want {
					for j, x := range want[k] {
						if math.Abs(float64(x)-float64(got[k][j])) > 1e-6 {
							t.Errorf("%s: text %q, value %d: %g among others and %g alone", name, some[k], j, got[k][j], x)
							return
						}
					}
				}
			})
		}
		calls.Wait()
		check(t, m.Close())
	}
}
