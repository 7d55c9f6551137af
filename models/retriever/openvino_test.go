package retriever_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/ortrain/runtime"
)

// needOpenVINO skips a test where OpenVINO does not work. scripts/openvino/anycpu.sh runs the tests on other CPUs than Intel's.
func needOpenVINO(t *testing.T) runtime.OpenVINODevice {
	t.Helper()
	device, err := runtime.FindOpenVINO()
	if err != nil {
		t.Skip(err)
	}
	return device
}

// compared are the scores and vectors of a model, of no text, of one, and of texts from the shortest to longer ones than it reads.
func compared(t *testing.T, m *retriever.Model) []float32 {
	t.Helper()
	all, err := comparedBy(t.Context(), m)
	check(t, err)
	return all
}

func comparedBy(ctx context.Context, m *retriever.Model) (all []float32, err error) {
	for _, d := range [][]string{nil, {""}, documents[:1], documents, append(documents, strings.Repeat("密码 a b ", 200))} {
		got, err := m.Scores(ctx, query, d...)
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	e, err := m.Embedder()
	if err != nil { // a reranker
		return all, nil
	}
	x, err := e.Encode(ctx, prompt.Texts(false, documents...), retriever.EncodeOptions{})
	for _, v := range x {
		all = append(all, v.Values...)
	}
	return all, err
}

// near fails where two lists of numbers differ.
func near(t *testing.T, what string, got, want []float32, within float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= within*(1+math.Abs(float64(want[i])))) {
			t.Errorf("%s: number %d is %g, want %g", what, i, got[i], want[i])
			return
		}
	}
}

// OpenVINO scores as the CPU does: models of each kind, ONNX files, decoders and newer encoders.
func TestOpenVINO(t *testing.T) {
	needOpenVINO(t)
	all := refs(t)
	for _, folder := range []string{"bert-dense", "qwen3-dense", "qwen3-causal", "qwen3-reranker", "gemma3-reranker", "llama-reranker", "modernbert-dense",
		"modernbert-reranker", "gte-reranker", "nomicbert-reranker", "xlmr-reranker", "folders/qwen3-colbert"} {
		all[folder] = fixtures + folder
	}
	for name, ref := range all {
		t.Run(name, func(t *testing.T) {
			m := open(t, ref, retriever.Options{Provider: runtime.OpenVINO})
			if i := m.Info(); i.Provider != "openvino" || i.Precision != "fp32" {
				t.Errorf("%+v", i)
			}
			near(t, name, compared(t, m), compared(t, open(t, ref, retriever.Options{})), 1e-5)
		})
	}
}

// Calls of a server run at once, on two sessions of different numbers of threads.
func TestOpenVINOConcurrent(t *testing.T) {
	needOpenVINO(t)
	ref := saved(t, modelcard.Reranker)
	want := compared(t, open(t, ref, retriever.Options{}))
	m, err := retriever.Open(t.Context(), ref, retriever.Options{Provider: runtime.OpenVINO, Threads: 2, Queue: &scoring.QueueOptions{BatchTokens: 64, Runs: 2}})
	check(t, err)
	defer func() { check(t, m.Close()) }()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				got, err := comparedBy(t.Context(), m)
				if err != nil {
					t.Error(err)
					return
				}
				near(t, "concurrent", got, want, 1e-5)
			}
		})
	}
	wg.Wait()
}

// bf16 is OpenVINO's own where the CPU has instructions for it. Elsewhere it is fp32, and the user is told.
func TestOpenVINOBF16(t *testing.T) {
	device := needOpenVINO(t)
	ref := saved(t, modelcard.Embedding)
	var notes []string
	o := retriever.Options{Provider: runtime.OpenVINO, MixedPrecision: precision.BF16, Note: func(line string) { notes = append(notes, line) }}
	m := open(t, ref, o)
	path, within, note := "fp32", 1e-5, "mixed_precision: OpenVINO finds no bf16 unit in this CPU (AMX or AVX512-BF16), so products are in fp32"
	if device.BF16 {
		path, within, note = "bf16-openvino", 0.05, ref+": matrix products in bf16 by OpenVINO"
	}
	if got := m.Info().Precision; got != path || !slices.Equal(notes, []string{note}) {
		t.Errorf("%s, want %s; %q", got, path, notes)
	}
	near(t, "bf16", compared(t, m), compared(t, open(t, ref, retriever.Options{})), within)
}

// What OpenVINO cannot do, and that it is not there, is one line.
func TestOpenVINORefusals(t *testing.T) {
	ref := saved(t, modelcard.Embedding)
	_, err := retriever.Open(t.Context(), ref, retriever.Options{Provider: runtime.OpenVINO, Int8: true})
	if err == nil || err.Error() != "int8 is for the CPU: leave it out, or provider openvino" {
		t.Error(err)
	}
	if _, missing := runtime.FindOpenVINO(); missing != nil {
		_, err := retriever.Open(t.Context(), ref, retriever.Options{Provider: runtime.OpenVINO})
		if !errors.Is(err, runtime.ErrNoOpenVINO) || strings.Contains(err.Error(), "\n") {
			t.Error(err)
		}
	}
}
