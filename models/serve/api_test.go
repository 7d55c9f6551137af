package serve

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/precision"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/kernels"
)

// decoded decodes a response that must have the status 200.
func decoded(t *testing.T, w *httptest.ResponseRecorder, to any) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), to); err != nil {
		t.Fatal(err)
	}
}

// vectorsOf posts to /v1/embeddings and gives the vectors.
func vectorsOf(t *testing.T, h http.Handler, body string) (vectors [][]float32) {
	t.Helper()
	var out struct {
		Data []struct{ Embedding []float32 }
	}
	decoded(t, ask(h, "POST", "/v1/embeddings", body), &out)
	for _, x := range out.Data {
		vectors = append(vectors, x.Embedding)
	}
	return vectors
}

// apart is the largest difference of two vectors' numbers.
func apart(a, b []float32) float64 {
	d := math.Abs(float64(len(a) - len(b)))
	for i := range min(len(a), len(b)) {
		d = max(d, math.Abs(float64(a[i])-float64(b[i])))
	}
	return d
}

// Token ids are a finished sequence of the model's own vocabulary, alone, in lists, and between texts.
func TestTokenIDs(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	var ids []int64
	tokens, err := opened(t, "embed").Tokenize(t.Context(), "the a", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range tokens {
		ids = append(ids, x.ID)
	}
	sequence, _ := json.Marshal(ids)
	want := vectorsOf(t, h, `{"input": "the a"}`)
	for input, at := range map[string]int{string(sequence): 0, fmt.Sprintf("[%s]", sequence): 0, fmt.Sprintf(`["er", %s, "b"]`, sequence): 1} {
		if got := vectorsOf(t, h, `{"input": `+input+`}`); apart(got[at], want[0]) > 1e-6 {
			t.Errorf("%s: %v, want %v", input, got[at], want[0])
		}
	}
	var vectors [][]float32
	decoded(t, ask(h, "POST", "/embed", fmt.Sprintf(`{"inputs": [%s]}`, sequence)), &vectors)
	if apart(vectors[0], want[0]) > 1e-6 {
		t.Errorf("/embed: %v, want %v", vectors[0], want[0])
	}
}

// Each API tells mistakes by its own status and in its own form, and names the field.
func TestFieldErrors(t *testing.T) {
	_, h, _ := local(t, Options{MaxTexts: 3}, "embed", "rerank", "colbert")
	for _, x := range []struct {
		path, body string
		status     int
		param      string
		words      string
	}{
		{"/v1/embeddings", `{"input": "a", "dimensions": "5"}`, 400, "dimensions", "dimensions is a string, want a whole number"},
		{"/v1/embeddings", `{"input": "a", "dimensions": 0}`, 400, "dimensions", "want at least 1"},
		{"/v1/embeddings", `{"input": "a", "dimensions": 999}`, 400, "dimensions", "dimensions is 999"},
		{"/v1/embeddings", `{"input": "a", "encoding_format": 5}`, 400, "encoding_format", "is a number, want a string"},
		{"/v1/embeddings", `{"input": "a", "model": []}`, 400, "model", "model is a list, want a string"},
		{"/v1/embeddings", `{"input": "a", "model": "absent"}`, 404, "model", "not served"},
		{"/v1/embeddings", `{"input": "a", "truncate_prompt_tokens": 2}`, 400, "truncate_prompt_tokens", "the model's own length"},
		{"/v1/embeddings", `{"input": ["a", 5]}`, 400, "input", "input[1] is 5"},
		{"/v1/embeddings", `{"input": [5, "a"]}`, 400, "input", `input[1] is "a"`},
		{"/v1/embeddings", `{"input": [[1.5]]}`, 400, "input", "input[0] is [1.5]"},
		{"/v1/embeddings", `{"input": [null]}`, 400, "input", "input[0] is null"},
		{"/v1/embeddings", `{"input": [[null]]}`, 400, "input", "input[0]"},
		{"/v1/embeddings", `{"input": [2, 99999]}`, 400, "", "the token id 99999 is not in the model's vocabulary"},
		{"/v1/embeddings", `{"input": [[]]}`, 400, "", "it has no token"},
		{"/v1/embeddings", `{"input": [1e40]}`, 400, "input", "input[0] is 1e40"},
		{"/v1/embeddings", `[]`, 400, "", "the body is a list, want an object"},
		{"/v1/embeddings", `{"input": "a"`, 400, "", "the body is not JSON"},
		{"/pooling", `{"messages": []}`, 400, "messages", "use_chat_template=False"},
		{"/pooling", `{"input": "a", "encoding_format": "base64"}`, 400, "encoding_format", "want float"},
		{"/v2/rerank", `{"query": "a", "documents": ["b"], "max_tokens_per_doc": 0}`, 400, "", "max_tokens_per_doc is 0"},
		{"/v2/rerank", `{"query": "a", "documents": ["b", 5]}`, 400, "", "documents[1] is 5"},
		{"/v2/rerank", `{"query": "a", "documents": ["b", "c", "d", "e"]}`, 400, "", "documents has 4 texts, want at most 3"},
		{"/v1/rerank", `{"query": "a", "documents": "b"}`, 400, "", "documents is a string, want a list"},
		{"/v1/rerank", `{"query": "a", "documents": ["b"], "top_n": 1.5}`, 400, "", "top_n is the number 1.5"},
		{"/rerank", `{"query": "a", "texts": ["a"], "documents": ["a"]}`, 422, "", "texts and documents"},
		{"/rerank", `{"query": "a", "texts": "b"}`, 422, "", "texts is \"b\", want a list"},
		{"/rerank", `{"query": "a", "texts": [null]}`, 422, "", "texts[0] is null"},
		{"/rerank", `{"query": "a", "texts": []}`, 400, "", "texts is missing or empty"},
		{"/rerank", `{"query": "a", "texts": ["b", "c", "d", "e"]}`, 413, "", "want at most 3"},
		{"/rerank", `{"query": "a", "texts": ["b"], "truncation_direction": "Left"}`, 422, "", "want Right"},
		{"/rerank", `{"query": "a", "texts": ["b"], "truncation_direction": "Up"}`, 422, "", "want Left or Right"},
		{"/embed", `{"inputs": "a", "normalize": false}`, 422, "", "length one"},
		{"/embed", `{"inputs": "a", "prompt_name": "code"}`, 422, "", "prompt_name"},
		{"/embed", `{"inputs": [2], "prompt_name": "query"}`, 422, "", "finished sequence"},
		{"/embed", `{"inputs": "a", "dimensions": 0}`, 422, "", "dimensions"},
		{"/embed", `{"inputs": "a", "truncate": "no"}`, 422, "", "truncate is a string, want true or false"},
		{"/embed", `{"inputs": []}`, 400, "", "inputs is missing or empty"},
		{"/embed", `{"inputs": ["a", "b", "c", "d"]}`, 413, "", "want at most 3"},
		{"/embed", `{"inputs": "a"`, 400, "", "not JSON"},
		{"/similarity", `{"inputs": {"sentences": ["a"]}}`, 400, "", "inputs.source_sentence is missing"},
		{"/similarity", `{"inputs": {"source_sentence": "a"}}`, 400, "", "inputs.sentences is missing"},
		{"/similarity", `{"inputs": 5}`, 422, "", "inputs is a number, want an object"},
		{"/tokenize", `{"inputs": [5]}`, 422, "", "inputs[0] is 5"},
	} {
		w := ask(h, "POST", x.path, x.body)
		var out struct {
			Error     any
			ErrorType string `json:"error_type"`
			Message   string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Errorf("%s %s: %s", x.path, x.body, w.Body)
			continue
		}
		message, param := out.Message, ""
		switch e := out.Error.(type) {
		case string: // TEI's
			if message = e; out.ErrorType != "Validation" && out.ErrorType != "Empty" {
				t.Errorf("%s %s: %s", x.path, x.body, w.Body)
			}
		case map[string]any: // OpenAI's
			message = e["message"].(string)
			param, _ = e["param"].(string)
		}
		if w.Code != x.status || param != x.param || !strings.Contains(message, x.words) {
			t.Errorf("%s %s: %d, param %q: %s; want %d, param %q: %s", x.path, x.body, w.Code, param, w.Body, x.status, x.param, x.words)
		}
	}
}

// A text that is too long is cut unless truncate is false; truncation_direction says at which end.
func TestTruncate(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed", "rerank")
	m := opened(t, "embed")
	limit := m.Info().PassageMaxLen
	long := strings.Repeat("a ", limit) + strings.Repeat("b ", limit)
	for fields, same := range map[string]string{
		`"truncate": true`: strings.Repeat("a ", limit-2), `"truncation_direction": "Left"`: strings.Repeat("b ", limit-2), `"truncate": null`: strings.Repeat("a ", limit-2),
	} {
		var vectors, want [][]float32
		decoded(t, ask(h, "POST", "/embed", fmt.Sprintf(`{"inputs": %q, %s}`, long, fields)), &vectors)
		decoded(t, ask(h, "POST", "/embed", fmt.Sprintf(`{"inputs": %q, "truncate": false}`, same)), &want)
		if apart(vectors[0], want[0]) > 1e-6 {
			t.Errorf("%s: not the vector of the text that is left", fields)
		}
	}
	for path, body := range map[string]string{
		"/embed": `{"inputs": ["a", %q], "truncate": false}`, "/rerank": `{"query": "a", "texts": ["b", %q], "truncate": false}`,
		"/similarity": `{"inputs": {"source_sentence": "a", "sentences": [%q]}, "parameters": {"truncate": false}}`,
	} {
		w := ask(h, "POST", path, fmt.Sprintf(body, long))
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "too long: it has ") || !strings.Contains(w.Body.String(), `"Tokenizer"`) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// max_tokens_per_doc gives the score of the document's beginning; raw_scores gives logits, whose order the sigmoids keep.
func TestRerankFields(t *testing.T) {
	_, h, _ := local(t, Options{}, "rerank")
	scores, err := opened(t, "rerank").Scores(t.Context(), "the a", "er b", "er", "c d e")
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		ID, Object, Model string
		Created           int64
		Results           []struct {
			Index          int
			RelevanceScore float32 `json:"relevance_score"`
		}
		Usage struct{ TotalTokens, PromptTokens int } `json:"usage"`
		Meta  struct {
			Tokens struct {
				InputTokens int `json:"input_tokens"`
			}
		}
	}
	decoded(t, ask(h, "POST", "/v2/rerank", `{"query": "the a", "documents": ["er b c", {"text": "er"}], "max_tokens_per_doc": 3, "raw_scores": true}`), &out)
	for _, x := range out.Results { // "er" has two tokens
		if math.Abs(float64(x.RelevanceScore-scores[x.Index])) > 1e-6 {
			t.Errorf("document %d: %g, want %g", x.Index, x.RelevanceScore, scores[x.Index])
		}
	}
	if len(out.Results) != 2 || out.ID == "" || out.Meta.Tokens.InputTokens == 0 {
		t.Errorf("%+v", out)
	}
	w := ask(h, "POST", "/rerank", `{"query": "the a", "documents": ["er b", "er", "c d e"], "top_n": 9}`)
	decoded(t, w, &out)
	if out.Object != "rerank" || out.Model != "rerank" || out.ID == "" || out.Created == 0 || len(out.Results) != 3 || !strings.Contains(w.Body.String(), `"total_tokens":2`) {
		t.Errorf("%+v: %s", out, w.Body)
	}
	for i, x := range out.Results {
		if i > 0 && scores[x.Index] > scores[out.Results[i-1].Index] || math.Abs(float64(x.RelevanceScore-sigmoid(scores[x.Index]))) > 1e-6 {
			t.Errorf("%v, want the order of %v", out.Results, scores)
		}
	}
}

// Documents whose sigmoids are equal keep the order of their logits. A score that is no number is an error.
func TestInOrder(t *testing.T) {
	order, err := inOrder([]float32{20, 40, 30, 40})
	if err != nil || !slices.Equal(order, []ranked{{1, 40}, {3, 40}, {2, 30}, {0, 20}}) {
		t.Errorf("%v, %v", order, err)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := inOrder([]float32{1, float32(bad)}); err == nil || teiStatus(err.(*Error)) != http.StatusFailedDependency || badRequest(err.(*Error)) != 500 {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestTokenize(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	w := ask(h, "POST", "/tokenize", `{"inputs": "Ab"}`)
	const want = `[[{"id":2,"text":"[CLS]","special":true,"start":null,"stop":null},{"id":5,"text":"A","special":false,"start":0,"stop":1},` +
		`{"id":32,"text":"b","special":false,"start":1,"stop":2},{"id":3,"text":"[SEP]","special":true,"start":null,"stop":null}]]`
	if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d: %s\nwant %s", w.Code, w.Body, want)
	}
	var out [][]teiToken
	decoded(t, ask(h, "POST", "/tokenize", `{"inputs": ["a", "b c"], "add_special_tokens": false, "prompt_name": "query"}`), &out)
	if len(out) != 2 || len(out[0]) != 1 || len(out[1]) != 2 {
		t.Errorf("%v", out)
	}
}

// A model in bf16 says so.
func TestInfoOfBF16(t *testing.T) {
	t.Setenv(kernels.Variable, string(kernels.Portable))
	m, err := OpenModel(t.Context(), "embed", folders["embed"], retriever.Options{Threads: 1, MixedPrecision: precision.BF16})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New([]*Model{m}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if w := ask(s.Handler(), "GET", "/info", ""); !strings.Contains(w.Body.String(), `"model_dtype":"bfloat16"`) {
		t.Error(w.Body)
	}
}

func TestInfo(t *testing.T) {
	for kind, want := range map[string]string{"embed": `"model_type":{"embedding":{"pooling":"mean"}}`, "rerank": `"model_type":{"reranker":`, "colbert": `"pooling":"colbert"`} {
		_, h, _ := local(t, Options{Version: "1.2", MaxTexts: 7}, kind)
		w := ask(h, "GET", "/info", "")
		for _, want := range []string{want, `"served_model_name":"` + kind + `"`, `"version":"1.2"`, `"max_client_batch_size":7`, `"max_batch_tokens":2048`, `"model_dtype":"float32"`} {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d %s, want %s", kind, w.Code, w.Body, want)
			}
		}
	}
}

func TestOneModel(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed", "rerank")
	var out struct{ ID, Object, Kind string }
	decoded(t, ask(h, "GET", "/v1/models/rerank", ""), &out)
	if out.ID != "rerank" || out.Object != "model" || out.Kind != string(modelcard.Reranker) {
		t.Errorf("%+v", out)
	}
	w := ask(h, "GET", "/v1/models/org%2Fabsent", "")
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), `"code":"model_not_found"`) || !strings.Contains(w.Body.String(), "org/absent") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// POST / is /embed, /similarity or /rerank, and the headers are TEI's.
func TestAny(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed", "rerank")
	for path, body := range map[string]string{
		"/embed": `{"inputs": ["the a", "中"]}`, "/similarity": `{"inputs": {"source_sentence": "the a", "sentences": ["er"]}}`, "/rerank": `{"query": "the a", "texts": ["er", "b"]}`,
	} {
		own, any := ask(h, "POST", path, body), ask(h, "POST", "/", body)
		if own.Code != http.StatusOK || own.Body.String() != any.Body.String() {
			t.Errorf("%s: %d %s, by /: %d %s", path, own.Code, own.Body, any.Code, any.Body)
		}
		for _, key := range []string{"X-Compute-Time", "X-Total-Time", "X-Tokenization-Time", "X-Queue-Time", "X-Inference-Time", "X-Compute-Type"} {
			if own.Header().Get(key) == "" {
				t.Errorf("%s has no header %s: %v", path, key, own.Header())
			}
		}
		if characters := map[string]string{"/embed": "6", "/similarity": "7", "/rerank": "13"}[path]; own.Header().Get("X-Compute-Characters") != characters {
			t.Errorf("%s: %v, want %s characters", path, own.Header(), characters)
		}
		if own.Header().Get("X-Compute-Tokens") == "0" {
			t.Errorf("%s: %v", path, own.Header())
		}
	}
}

// /pooling gives each token's vector of a ColBERT model, as a query or a passage, and the one vector of an embedding model.
func TestPooling(t *testing.T) {
	_, h, _ := local(t, Options{}, "colbert", "embed")
	e, err := opened(t, "colbert").Embedder()
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []bool{false, true} {
		want, err := e.Encode(t.Context(), prompt.Texts(query, "the a"), retriever.EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ Data []struct{ Data [][]float32 } }
		decoded(t, ask(h, "POST", "/pooling", fmt.Sprintf(`{"input": "the a", "input_type": %q}`, map[bool]string{true: "query"}[query])), &out)
		if got := slices.Concat(out.Data[0].Data...); len(out.Data[0].Data) != want[0].Vectors() || apart(got, want[0].Values) > 1e-6 {
			t.Errorf("query %v: %v, want %v", query, got, want[0].Values)
		}
	}
	var out struct{ Data []struct{ Data []float32 } }
	decoded(t, ask(h, "POST", "/pooling", `{"input": "the a", "model": "embed"}`), &out)
	if want := vectorsOf(t, h, `{"input": "the a"}`)[0]; apart(out.Data[0].Data, want) > 1e-6 {
		t.Errorf("%v, want %v", out, want)
	}
}

// The page is open to all, and what it asks of models is not: also POST / and POST /page/matches need a key.
func TestKeysOfThePage(t *testing.T) {
	_, h, _ := local(t, Options{Keys: NewKeys("a-key-of-16-chars")}, "embed", "colbert")
	for path, body := range map[string]string{"/": `{"inputs": "a"}`, "/page/matches": `{"query": "a", "document": "a"}`} {
		if w := ask(h, "POST", path, body); w.Code != http.StatusUnauthorized {
			t.Errorf("POST %s without a key: %d", path, w.Code)
		}
		if w := ask(h, "POST", path, body, "Authorization", "Bearer a-key-of-16-chars"); w.Code != http.StatusOK {
			t.Errorf("POST %s with a key: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(h, "GET", "/", ""); w.Code != http.StatusOK {
		t.Errorf("GET / without a key: %d", w.Code)
	}
}

// Each path tells the methods that it has.
func TestWrongMethod(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	for path, want := range map[string]string{"/": "POST, GET", "/v1/models/embed": "GET", "/embed": "POST", "/health": "GET", "/page/main.js": "GET"} {
		if w := ask(h, "DELETE", path, ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != want {
			t.Errorf("DELETE %s: %d %v", path, w.Code, w.Header())
		}
	}
}
