package retriever_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/encoder/encodertest"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/models/scoring"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/runtime"
)

const (
	fixtures = "../finetune/testdata/"
	tiny     = "../embedding/testdata/tiny"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// parameters lists and fills a model's parameters.
type parameters interface {
	Params() []flat.Param
	Fill(to hf.Target) error
}

// filled are a model's parameters in a flat buffer.
func filled(t *testing.T, m parameters) (*flat.Layout, []float32) {
	t.Helper()
	l, err := flat.NewLayout(m.Params())
	check(t, err)
	values := make([]float32, l.Total)
	check(t, m.Fill(hf.Buffer{Layout: l, Data: values}))
	return l, values
}

// saved is a folder of a kind, as this program saves it, with model.onnx beside it.
func saved(t *testing.T, kind modelcard.Kind) string {
	t.Helper()
	dir, card := filepath.Join(t.TempDir(), "model"), modelcard.Card{QueryMaxLen: 10, PassageMaxLen: 12, MaxLen: 18}
	switch kind {
	case modelcard.Embedding:
		m, err := embedding.OpenBase(fixtures + "bert")
		check(t, err)
		defer m.Close()
		l, values := filled(t, m)
		m.Config.Formats = prompt.Formats{Query: prompt.Prefix("q "), Document: prompt.Prefix("d ")}
		check(t, m.Save(dir, card, l, values))
	case modelcard.ColBERT:
		m, err := colbert.Open(fixtures + "bert")
		check(t, err)
		defer m.Close()
		l, values := filled(t, m)
		check(t, m.Save(dir, card, l, values))
	default:
		m, err := reranker.Open(fixtures + "bert-reranker")
		check(t, err)
		defer m.Close()
		l, values := filled(t, m)
		check(t, m.Save(dir, card, l, values))
	}
	return dir
}

func open(t *testing.T, ref string, o retriever.Options) *retriever.Model {
	t.Helper()
	o.Threads = 1
	m, err := retriever.Open(t.Context(), ref, o)
	check(t, err)
	t.Cleanup(func() { check(t, m.Close()) })
	return m
}

// refs are a model of each kind, and an ONNX file of each kind that can be one.
func refs(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, k := range modelcard.Kinds {
		out[string(k)] = saved(t, k)
		if k != modelcard.ColBERT {
			out[string(k)+" file"] = filepath.Join(out[string(k)], "model.onnx")
		}
	}
	return out
}

const query = "如何 重置 a b"

var documents = []string{"在设置页面 点击", "a b c d e f g h i k l m n o p r", "苹果 1 2", "密码", "苹果 1 2"}

// A model of each kind says what it is, scores documents as eval scores the candidates of a sample, and where it makes vectors
// they compare to the same scores.
func TestEveryKind(t *testing.T) {
	want := map[string]retriever.Info{
		"embedding": {Kind: modelcard.Embedding, Architecture: "bert", Dimension: 24, Pooling: "mean", Similarity: "cosine",
			QueryMaxLen: 20, PassageMaxLen: 20, QueryFormat: "q {}", DocumentFormat: "d {}"},
		"embedding file": {Kind: modelcard.Embedding, Architecture: "onnx", Dimension: 24, Pooling: "mean", Similarity: "cosine",
			QueryMaxLen: 20, PassageMaxLen: 20, QueryFormat: "q {}", DocumentFormat: "d {}"},
		"colbert": {Kind: modelcard.ColBERT, Architecture: "bert", Dimension: 12, Similarity: "meanmaxsim",
			QueryMaxLen: 10, PassageMaxLen: 12, QueryFormat: "{}", DocumentFormat: "{}"},
		"reranker":      {Kind: modelcard.Reranker, Architecture: "bert", MaxLen: 18, QueryFormat: "{}", DocumentFormat: "{}"},
		"reranker file": {Kind: modelcard.Reranker, Architecture: "onnx", MaxLen: 20, QueryFormat: "{}", DocumentFormat: "{}"},
	}
	for name, ref := range refs(t) {
		t.Run(name, func(t *testing.T) {
			m := open(t, ref, retriever.Options{})
			w := want[name]
			w.Ref, w.Provider, w.LongDocs, w.Precision = ref, runtime.CPU, retriever.Truncate, "fp32"
			if w.Dir = ref; strings.HasSuffix(ref, ".onnx") {
				w.Dir = filepath.Dir(ref)
			}
			if m.Info() != w {
				t.Errorf("%+v, want %+v", m.Info(), w)
			}
			scores, err := m.Scores(t.Context(), query, documents...)
			check(t, err)
			sample := mteb.Sample{Query: []string{query}, Positive: documents[:2], Negative: documents[2:]}
			eval, err := mteb.ScoreAll(t.Context(), retriever.SampleScorer{Ranker: m}, []mteb.Sample{sample})
			check(t, err)
			if !slices.Equal(scores, eval[0]) || scores[2] != scores[4] || slices.Min(scores) == slices.Max(scores) {
				t.Errorf("scores %v, as a sample %v", scores, eval[0])
			}
			e, err := m.Embedder()
			if w.Kind == modelcard.Reranker {
				if err == nil || !strings.Contains(err.Error(), "is a model of kind reranker, which reads query and passage together") {
					t.Error(err)
				}
				return
			}
			check(t, err)
			compareVectors(t, e, scores)
		})
	}
}

// compareVectors compares the vectors of the query and the documents.
func compareVectors(t *testing.T, e retriever.Embedder, want []float32) {
	t.Helper()
	texts := append(prompt.Texts(true, query), prompt.Texts(false, documents...)...)
	x, err := e.Encode(t.Context(), texts, retriever.EncodeOptions{})
	check(t, err)
	dim := e.Info().Dimension
	for i, v := range x {
		if len(v.Values) != v.Vectors()*int(dim) || v.Tokens < v.Vectors() {
			t.Fatalf("text %d: %d numbers, %d vectors, %d tokens", i, len(v.Values), v.Vectors(), v.Tokens)
		}
		sum := 0.0
		for _, a := range v.Values {
			sum += float64(a) * float64(a)
		}
		if math.Abs(sum-float64(v.Vectors())) > 1e-4 {
			t.Errorf("text %d: %d vectors have the squared length %g together", i, v.Vectors(), sum)
		}
	}
	got, err := e.Similarity(x[0], x[1:])
	check(t, err)
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-6) {
			t.Errorf("vectors %v, scores %v", got, want)
		}
	}
	x[1].Values = x[1].Values[1:]
	if _, err := e.Similarity(x[0], x[1:]); err == nil {
		t.Error("vectors of another length are compared")
	}
}

// A query of several wordings, with a prompt of its own, scores by the best wording; its texts are those that the prompt makes.
func TestWordingsAndPrompts(t *testing.T) {
	m := open(t, saved(t, modelcard.Embedding), retriever.Options{})
	rank := func(m *retriever.Model, q retriever.Query) []float32 {
		scores, err := scoring.RankAll(t.Context(), m, []retriever.Query{q})
		check(t, err)
		return scores[0]
	}
	one := rank(m, retriever.Query{Texts: []string{"a"}, Prompt: "z ", Documents: documents})
	other := rank(m, retriever.Query{Texts: []string{"密码"}, Prompt: "z ", Documents: documents})
	both := rank(m, retriever.Query{Texts: []string{"a", "密码"}, Prompt: "z ", Documents: documents})
	for i := range both {
		if math.Abs(float64(both[i]-max(one[i], other[i]))) > 1e-6 {
			t.Errorf("document %d: %g, its wordings %g and %g", i, both[i], one[i], other[i])
		}
	}
	prompts := map[string]string{"query": "z ", "passage": "d "}
	query, passage := prompts["query"], prompts["passage"]
	named := open(t, m.Info().Ref, retriever.Options{QueryPrompt: &query, PassagePrompt: &passage})
	got, err := named.Scores(t.Context(), "a", documents...)
	check(t, err)
	if !slices.Equal(got, one) {
		t.Errorf("with the prompt as an option %v, as the query's own %v", got, one)
	}
	if i := named.Info(); i.QueryFormat != "z {}" || i.DocumentFormat != "d {}" {
		t.Errorf("%+v", i)
	}
}

// The lengths of the options hold; else those of the training run for ColBERT models and rerankers, and the longest text that it reads for an
// embedding model.
func TestLengths(t *testing.T) {
	embedding, colbert, reranker := saved(t, modelcard.Embedding), saved(t, modelcard.ColBERT), saved(t, modelcard.Reranker)
	for _, c := range []struct {
		ref  string
		o    retriever.Options
		want [3]int
	}{
		{embedding, retriever.Options{}, [3]int{20, 20, 0}},
		{embedding, retriever.Options{PassageMaxLen: 7}, [3]int{20, 7, 0}},
		{embedding + "/model.onnx", retriever.Options{}, [3]int{20, 20, 0}},
		{tiny, retriever.Options{}, [3]int{24, 24, 0}},
		{colbert, retriever.Options{QueryMaxLen: 6}, [3]int{6, 12, 0}},
		{reranker, retriever.Options{}, [3]int{0, 0, 18}},
		{reranker, retriever.Options{MaxLen: 9}, [3]int{0, 0, 9}},
	} {
		i := open(t, c.ref, c.o).Info()
		if got := [3]int{i.QueryMaxLen, i.PassageMaxLen, i.MaxLen}; got != c.want {
			t.Errorf("%s %+v: lengths %v, want %v", c.ref, c.o, got, c.want)
		}
	}
}

// corpus yields n texts.
func corpus(n int) iter.Seq2[prompt.Text, error] {
	return func(yield func(prompt.Text, error) bool) {
		for i := range n {
			if !yield(prompt.Text{Text: strings.Repeat(string(rune('a'+i%26))+" ", 1+i%9)}, nil) {
				return
			}
		}
	}
}

// A stream's embeddings are those of its chunks, in order; its progress and its errors count from the first text.
func TestStream(t *testing.T) {
	e, err := open(t, tiny, retriever.Options{}).Embedder()
	check(t, err)
	const n = retriever.StreamChunk + 300
	var texts []prompt.Text
	for x := range corpus(n) {
		texts = append(texts, x)
	}
	var want []retriever.Embedding
	for _, chunk := range [][]prompt.Text{texts[:retriever.StreamChunk], texts[retriever.StreamChunk:]} {
		x, err := e.Encode(t.Context(), chunk, retriever.EncodeOptions{})
		check(t, err)
		want = append(want, x...)
	}
	last, got := 0, 0
	progress := func(done int) {
		if done < last || done > n {
			t.Errorf("%d texts are done after %d", done, last)
		}
		last = done
	}
	check(t, retriever.Stream(t.Context(), e, corpus(n), retriever.EncodeOptions{Progress: progress}, func(x retriever.Embedding) error {
		if !slices.Equal(x.Values, want[got].Values) || x.Tokens != want[got].Tokens {
			return fmt.Errorf("text %d differs", got)
		}
		got++
		return nil
	}))
	if got != n || last != n {
		t.Errorf("%d embeddings, progress ends at %d, want %d", got, last, n)
	}
	broken := errors.New("the corpus ends here")
	cut := func(yield func(prompt.Text, error) bool) {
		for x := range corpus(retriever.StreamChunk + 10) {
			if !yield(x, nil) {
				return
			}
		}
		yield(prompt.Text{}, broken)
	}
	got = 0
	count := func(retriever.Embedding) error { got++; return nil }
	if err := retriever.Stream(t.Context(), e, cut, retriever.EncodeOptions{}, count); !errors.Is(err, broken) || got != retriever.StreamChunk {
		t.Errorf("%v after %d embeddings", err, got)
	}
	full := errors.New("disk full")
	if err := retriever.Stream(t.Context(), e, corpus(3), retriever.EncodeOptions{}, func(retriever.Embedding) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
}

// A text of which the tokenizer leaves nothing is named by its number in the stream, or by its query's number and place.
func TestTextsWithoutTokens(t *testing.T) {
	file := map[string]any{}
	check(t, hf.ReadJSON(filepath.Join(tiny, "tokenizer.json"), &file))
	file["post_processor"].(map[string]any)["single"] = []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}} // no special tokens
	b, err := json.Marshal(file)
	check(t, err)
	m := open(t, encodertest.Folder(t, tiny, map[string]string{"tokenizer.json": string(b)}), retriever.Options{})
	e, err := m.Embedder()
	check(t, err)
	texts := func(yield func(prompt.Text, error) bool) {
		for x, err := range corpus(retriever.StreamChunk + 3) {
			if !yield(x, err) {
				return
			}
		}
		yield(prompt.Text{}, nil)
	}
	var wrong *retriever.TextError
	err = retriever.Stream(t.Context(), e, texts, retriever.EncodeOptions{}, func(retriever.Embedding) error { return nil })
	if !errors.As(err, &wrong) || wrong.Index != retriever.StreamChunk+3 {
		t.Error(err)
	}
	queries := []retriever.Query{{Texts: []string{"a"}, Documents: []string{"b"}}, {Texts: []string{"a"}, Documents: []string{"b", ""}, Origin: "rows.jsonl:7"}}
	_, err = scoring.RankAll(t.Context(), m, queries)
	if !errors.As(err, &wrong) || wrong.Index != 1 || err.Error() != `rows.jsonl:7: the passage "" has no token` {
		t.Error(err)
	}
}

// The first numbers of a vector are a vector of length one again.
func TestDimension(t *testing.T) {
	e, err := open(t, tiny, retriever.Options{}).Embedder()
	check(t, err)
	whole, err := e.Encode(t.Context(), prompt.Texts(true, "a b"), retriever.EncodeOptions{})
	check(t, err)
	cut, err := e.Encode(t.Context(), prompt.Texts(true, "a b"), retriever.EncodeOptions{Dimension: 8})
	check(t, err)
	length := 0.0
	for _, x := range whole[0].Values[:8] {
		length += float64(x) * float64(x)
	}
	for i, x := range cut[0].Values {
		if math.Abs(float64(x)-float64(whole[0].Values[i])/math.Sqrt(length)) > 1e-6 {
			t.Errorf("number %d is %g", i, x)
		}
	}
	if len(cut[0].Values) != 8 {
		t.Errorf("%d numbers", len(cut[0].Values))
	}
	for _, n := range []int{-1, 37} {
		if _, err := e.Encode(t.Context(), prompt.Texts(true, "a"), retriever.EncodeOptions{Dimension: n}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("dimension is %d, want 1 to 36", n)) {
			t.Error(err)
		}
	}
	multi, err := open(t, fixtures+"bert", retriever.Options{}).Embedder()
	check(t, err)
	if _, err := multi.Encode(t.Context(), prompt.Texts(true, "a"), retriever.EncodeOptions{Dimension: 4}); err == nil || !strings.Contains(err.Error(), "dimension is for embedding models") {
		t.Error(err)
	}
}

// A long document counts by the best of its windows, for every kind: what matches the query stands at its end.
func TestLongDocuments(t *testing.T) {
	long := strings.Repeat("苹果 水果 ", 30) + "密码 如何"
	for name, ref := range refs(t) {
		if name == "reranker" {
			continue // its windows have at least 101 tokens, more than this model reads
		}
		truncated, err := open(t, ref, retriever.Options{}).Scores(t.Context(), "密码 如何", long, "密码 如何")
		check(t, err)
		m := open(t, ref, retriever.Options{LongDocs: retriever.MaxWindow})
		windows, err := m.Scores(t.Context(), "密码 如何", long, "密码 如何")
		check(t, err)
		if !(windows[0] > truncated[0]) || math.Abs(float64(windows[1]-truncated[1])) > 1e-5 || m.Info().LongDocs != retriever.MaxWindow {
			t.Errorf("%s: %v, truncated %v", name, windows, truncated)
		}
	}
}

// Int8 gives scores close to those of fp32, and a document the same score in every batch.
func TestInt8(t *testing.T) {
	ref := encodertest.Wide(t, fixtures+"bert/vocab.txt")
	exact, err := open(t, ref, retriever.Options{}).Scores(t.Context(), query, documents...)
	check(t, err)
	m := open(t, ref, retriever.Options{Int8: true, Provider: runtime.Auto})
	got, err := m.Scores(t.Context(), query, documents...)
	check(t, err)
	if slices.Equal(got, exact) || !m.Info().Int8 || m.Info().Provider != runtime.CPU {
		t.Errorf("%v, in fp32 %v, %+v", got, exact, m.Info())
	}
	for i := range got {
		if math.Abs(float64(got[i]-exact[i])) > 0.05 {
			t.Errorf("document %d: %g, in fp32 %g", i, got[i], exact[i])
		}
		alone, err := m.Scores(t.Context(), query, documents[i])
		check(t, err)
		if alone[0] != got[i] {
			t.Errorf("document %d: %g, alone %g", i, got[i], alone[0])
		}
	}
}

// A smaller limit of a batch's tokens makes more batches of the same scores.
func TestBatchTokens(t *testing.T) {
	for name, ref := range refs(t) {
		var want []float32
		for _, tokens := range []int{0, 16} {
			m, batches := open(t, ref, retriever.Options{BatchTokens: tokens}), 0
			var got []float32
			progress := func(int, int) { batches++ }
			check(t, m.Rank(t.Context(), []retriever.Query{{Texts: []string{query}, Documents: documents}}, retriever.RankOptions{Progress: progress}, func(x []float32) error {
				got = x
				return nil
			}))
			if tokens == 0 {
				want = got
			}
			if batches < 3 == (tokens > 0) {
				t.Errorf("%s: %d batches of %d tokens", name, batches, tokens)
			}
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-5 {
					t.Errorf("%s: %v, want %v", name, got, want)
				}
			}
		}
	}
}

// A context that ends stops a ranking and an encoding after the batch that runs.
func TestCancel(t *testing.T) {
	for name, ref := range refs(t) {
		m := open(t, ref, retriever.Options{BatchTokens: 16})
		ctx, cancel := context.WithCancel(t.Context())
		batches := 0
		progress := func(int, int) { batches++; cancel() }
		queries := []retriever.Query{{Texts: []string{query}, Documents: documents}}
		err := m.Rank(ctx, queries, retriever.RankOptions{Progress: progress}, func([]float32) error { return errors.New("scores of a ranking that was stopped") })
		if !errors.Is(err, context.Canceled) || batches != 1 {
			t.Errorf("%s: %v after %d batches", name, err, batches)
		}
		e, err := m.Embedder()
		if err != nil {
			continue
		}
		ctx, cancel = context.WithCancel(t.Context())
		batches = 0
		o := retriever.EncodeOptions{Progress: func(int) { batches++; cancel() }}
		if _, err := e.Encode(ctx, prompt.Texts(false, documents...), o); !errors.Is(err, context.Canceled) || batches != 1 {
			t.Errorf("%s: %v after %d batches", name, err, batches)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := retriever.BM25{}.Rank(ctx, []retriever.Query{{Texts: []string{"a"}, Documents: []string{"a"}}}, retriever.RankOptions{}, func([]float32) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Goroutines that share a model get the scores and vectors that each would get alone.
func TestConcurrentUse(t *testing.T) {
	for name, ref := range refs(t) {
		m := open(t, ref, retriever.Options{})
		want, err := m.Scores(t.Context(), query, documents...)
		check(t, err)
		e, vectorsErr := m.Embedder()
		var wantVectors []retriever.Embedding
		if vectorsErr == nil {
			wantVectors, err = e.Encode(t.Context(), prompt.Texts(false, documents...), retriever.EncodeOptions{})
			check(t, err)
		}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for range 4 {
					got, err := m.Scores(t.Context(), query, documents...)
					if err != nil || !slices.Equal(got, want) {
						t.Errorf("%s: %v, %v; want %v", name, got, err, want)
						return
					}
					if vectorsErr != nil {
						continue
					}
					vectors, err := e.Encode(t.Context(), prompt.Texts(false, documents...), retriever.EncodeOptions{})
					for i := range vectors {
						if !slices.Equal(vectors[i].Values, wantVectors[i].Values) {
							t.Errorf("%s: text %d has another vector", name, i)
						}
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// What cannot be opened is one line that says why, and leaves nothing open.
func TestBadModelsAndOptions(t *testing.T) {
	changed := func(from string, files map[string]string) string { return encodertest.Folder(t, from, files) }
	reranker, prefix := fixtures+"bert-reranker", "x "
	cut, whole := saved(t, modelcard.Reranker), saved(t, modelcard.Reranker)
	check(t, os.Truncate(filepath.Join(cut, "model.onnx"), 1000))
	for _, c := range []struct {
		ref    string
		o      retriever.Options
		want   string
		option bool
	}{
		{"nothere", retriever.Options{}, "nothere is no folder, and no hub id", false},
		{tiny + "/config.json", retriever.Options{}, "config.json is no folder", false},
		{t.TempDir(), retriever.Options{}, "config.json", false},
		{changed(tiny, map[string]string{"config.json": "{"}), retriever.Options{}, "config.json", false},
		{changed(tiny, map[string]string{"tokenizer.json": ""}), retriever.Options{}, "tokenizer.json", false},
		{changed(tiny, map[string]string{"model.safetensors": ""}), retriever.Options{}, "model.safetensors", false},
		{changed(tiny, map[string]string{"model.safetensors": "short"}), retriever.Options{}, "model.safetensors", false},
		{changed(tiny, map[string]string{"config_sentence_transformers.json": `{"similarity_fn_name": "euclidean"}`}), retriever.Options{}, `similarity_fn_name is "euclidean"`, false},
		{tiny, retriever.Options{Kind: modelcard.Reranker}, "not reranker", false},
		{tiny, retriever.Options{Kind: modelcard.ColBERT}, "not colbert", false},
		{"no/such.onnx", retriever.Options{}, "reading the model", false},
		{cut + "/model.onnx", retriever.Options{}, "model.onnx", false},
		{whole + "/model.onnx", retriever.Options{Kind: modelcard.Embedding}, "none of the outputs logits [-1 1] is a float32 vector", false},
		{whole + "/model.onnx", retriever.Options{PassagePrompt: &prefix}, "prompts are for embedding models", true},
		{cut + "/model.onnx", retriever.Options{Kind: modelcard.ColBERT}, "can be an embedding model or a reranker", false},
		{cut + "/model.onnx", retriever.Options{Int8: true}, "without int8", false},
		{saved(t, modelcard.ColBERT) + "/model.onnx", retriever.Options{}, "the ONNX file of a ColBERT model cannot be used; use its folder", false},
		{tiny, retriever.Options{QueryMaxLen: 2}, "the maximal length of queries is 2, want 3 to 24", false},
		{tiny, retriever.Options{PassageMaxLen: 25}, "the maximal length of passages is 25, want 3 to 24", false},
		{fixtures + "bert", retriever.Options{QueryMaxLen: 3}, "the maximal length of queries is 3, want 4 to 20", false},
		{reranker, retriever.Options{MaxLen: 21}, "the maximal length is 21, want 5 to 20", false},
		{reranker, retriever.Options{QueryPrompt: &prefix}, "prompts are for embedding models", true},
		{tiny, retriever.Options{Kind: "pancake"}, `kind is "pancake", want one of embedding, colbert, reranker`, true},
		{tiny, retriever.Options{LongDocs: "50%"}, `long_docs is "50%", want truncate or max-window`, true},
		{tiny, retriever.Options{Provider: "tpu"}, `provider is "tpu", want one of [cpu cuda auto openvino]`, true},
		{tiny, retriever.Options{Provider: runtime.CUDA, Int8: true}, "int8 is for the CPU: leave it out, or provider cuda", true},
		{tiny, retriever.Options{MixedPrecision: "fp16"}, `mixed_precision is "fp16", want one of [no fp32 bf16 auto]`, true},
		{tiny, retriever.Options{Provider: runtime.CUDA, MixedPrecision: precision.BF16}, "mixed_precision bf16 is for the CPU, scoring on cuda is in fp32: leave it out, or provider cuda", true},
		{whole + "/model.onnx", retriever.Options{MixedPrecision: precision.BF16}, "is an ONNX file, which is run as it is: leave the option out, or give the model's folder", true},
	} {
		before := runtime.OpenTensors()
		m, err := retriever.Open(t.Context(), c.ref, c.o)
		if err == nil {
			t.Errorf("%s %+v: opened", c.ref, c.o)
			check(t, m.Close())
			continue
		}
		var option *retriever.OptionError
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || errors.As(err, &option) != c.option {
			t.Errorf("%s %+v: %v, want %q", c.ref, c.o, err, c.want)
		}
		if n := runtime.OpenTensors(); n != before {
			t.Errorf("%s: %d tensors stay open", c.ref, n-before)
		}
	}
}

// A folder that its run was about to replace is read where it lies, and the user hears of it.
func TestNote(t *testing.T) {
	aside := filepath.Join(t.TempDir(), "model")
	check(t, os.CopyFS(aside+atomicdir.PreviousSuffix, os.DirFS(tiny)))
	var notes []string
	m := open(t, aside, retriever.Options{Note: func(line string) { notes = append(notes, line) }})
	if len(notes) != 1 || !strings.Contains(notes[0], "a run was stopped while it replaced") || m.Info().Dir != aside+atomicdir.PreviousSuffix {
		t.Errorf("%q, %+v", notes, m.Info())
	}
}

// A ranking that starts later has the scores of one from the beginning.
func TestBM25(t *testing.T) {
	queries := []retriever.Query{
		{Texts: []string{"red apple"}, Documents: []string{"a red apple", "a green apple", "the sea"}},
		{Texts: []string{"sea", "green"}, Documents: []string{"the sea", "a green apple", "a red apple"}},
	}
	all, err := scoring.RankAll(t.Context(), retriever.BM25{}, queries)
	check(t, err)
	if x := all[0]; !(x[0] > x[1] && x[1] > x[2]) || x[2] != 0 {
		t.Error(all)
	}
	if x := all[1]; !(x[0] > 0 && x[1] > 0) || x[2] != 0 {
		t.Error(all)
	}
	var rest [][]float32
	check(t, retriever.BM25{}.Rank(t.Context(), queries, retriever.RankOptions{Start: 1}, func(x []float32) error {
		rest = append(rest, x)
		return nil
	}))
	if len(rest) != 1 || !slices.Equal(rest[0], all[1]) {
		t.Errorf("%v, from the beginning %v", rest, all)
	}
}
