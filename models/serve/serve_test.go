package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/models/retriever"
)

// The models of the tests, by name.
var folders = map[string]string{
	"embed": "../embedding/testdata/tiny", "colbert": "../colbert/testdata/pylate", "rerank": "../finetune/testdata/bert-reranker",
}

// serving starts a server of some of the models.
func serving(t *testing.T, o Options, names ...string) (url string) {
	t.Helper()
	_, url = started(t, o, names...)
	return url
}

// started starts a server of some of the models.
func started(t *testing.T, o Options, names ...string) (*Server, string) {
	t.Helper()
	var models []*Model
	for _, name := range names {
		m, err := OpenModel(t.Context(), name, folders[name], retriever.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	s, err := New(models, o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(checked(t, s.Handler()))
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h.URL
}

// post posts a body, and returns the status and the response's body.
func post(t *testing.T, url, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return r.StatusCode, out
}

// opened is a model as other commands open it, without a queue.
func opened(t *testing.T, name string) *retriever.Model {
	t.Helper()
	m, err := retriever.Open(context.Background(), folders[name], retriever.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestEmbeddings(t *testing.T) {
	url := serving(t, Options{}, "embed") + "/v1/embeddings"
	e, err := opened(t, "embed").Embedder()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"the a", "er b c d", "the a"}
	want, err := e.Encode(t.Context(), prompt.Texts(false, texts...), retriever.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]any{"model": "embed", "input": texts})
	status, out := post(t, url, string(body))
	data, _ := out["data"].([]any)
	if status != http.StatusOK || len(data) != 3 || out["object"] != "list" || out["model"] != "embed" {
		t.Fatalf("%d: %v", status, out)
	}
	tokens := 0
	for i, x := range data {
		row := x.(map[string]any)
		values := row["embedding"].([]any)
		if row["index"] != float64(i) || row["object"] != "embedding" || len(values) != len(want[i].Values) {
			t.Fatalf("%v", row)
		}
		for j, v := range values {
			if math.Abs(v.(float64)-float64(want[i].Values[j])) > 1e-6 {
				t.Errorf("text %d, number %d: %v, want %v", i, j, v, want[i].Values[j])
			}
		}
		tokens += want[i].Tokens
	}
	if usage := out["usage"].(map[string]any); usage["prompt_tokens"] != float64(tokens) || usage["total_tokens"] != float64(tokens) {
		t.Errorf("%v, want %d tokens", usage, tokens)
	}
	status, out = post(t, url, `{"input": "the a", "encoding_format": "base64", "dimensions": 5}`)
	row := out["data"].([]any)[0].(map[string]any)
	b, err := base64.StdEncoding.DecodeString(row["embedding"].(string))
	if status != http.StatusOK || err != nil || len(b) != 4*5 {
		t.Fatalf("%d: %v, %v", status, out, err)
	}
	sum := 0.0
	for i := range 5 {
		x := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		sum += x * x
	}
	if math.Abs(sum-1) > 1e-6 {
		t.Errorf("a vector that was cut has the length %g", math.Sqrt(sum))
	}
}

// Many requests at once get the scores that each would have alone.
func TestRequestsShareBatches(t *testing.T) {
	url, m := serving(t, Options{}, "rerank"), opened(t, "rerank")
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			query, documents := fmt.Sprintf("the %c", 'a'+i%26), []string{"er", fmt.Sprintf("the er %d", i), strings.Repeat("a b ", 1+i%5)}
			want, err := m.Scores(context.Background(), query, documents...)
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := json.Marshal(map[string]any{"query": query, "documents": documents, "raw_scores": true})
			r, err := http.Post(url+"/v1/rerank", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			var out struct {
				Results []struct {
					Index int     `json:"index"`
					Score float64 `json:"relevance_score"`
				} `json:"results"`
			}
			if err := json.NewDecoder(r.Body).Decode(&out); err != nil || len(out.Results) != 3 {
				t.Errorf("%v, %v", out, err)
				return
			}
			for j, x := range out.Results {
				if math.Abs(x.Score-float64(want[x.Index])) > 1e-6 || j > 0 && x.Score > out.Results[j-1].Score {
					t.Errorf("request %d: %v, want the scores %v", i, out.Results, want)
				}
			}
		})
	}
	wait.Wait()
}

func TestRerank(t *testing.T) {
	url, m := serving(t, Options{}, "embed", "colbert", "rerank"), opened(t, "rerank")
	want, err := m.Scores(t.Context(), "the a", "er", "b")
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	if want[1] > want[0] {
		best = 1
	}
	status, out := post(t, url+"/v1/rerank", `{"model": "rerank", "query": "the a", "documents": ["er", {"text": "b"}], "top_n": 1, "return_documents": true}`)
	results, _ := out["results"].([]any)
	if status != http.StatusOK || len(results) != 1 {
		t.Fatalf("%d: %v", status, out)
	}
	first := results[0].(map[string]any)
	if score := first["relevance_score"].(float64); first["index"] != float64(best) || math.Abs(score-float64(sigmoid(want[best]))) > 1e-6 ||
		first["document"].(map[string]any)["text"] != []string{"er", "b"}[best] {
		t.Errorf("%v, want document %d with the sigmoid of %g", first, best, want[best])
	}
	for _, name := range []string{"embed", "colbert"} { // they rank by their own scores
		want, err := opened(t, name).Scores(t.Context(), "the a", "er")
		if err != nil {
			t.Fatal(err)
		}
		status, out := post(t, url+"/v2/rerank", fmt.Sprintf(`{"model": %q, "query": "the a", "documents": ["er"]}`, name))
		if status != http.StatusOK || math.Abs(out["results"].([]any)[0].(map[string]any)["relevance_score"].(float64)-float64(want[0])) > 1e-6 {
			t.Errorf("%s: %d: %v, want %g", name, status, out, want[0])
		}
	}
	if status, out := post(t, url+"/v1/rerank", `{"query": "a", "documents": ["b"]}`); status != http.StatusOK || out["model"] != "rerank" {
		t.Errorf("without a model's name: %d: %v, want the reranker", status, out)
	}
}

// TEI's routes answer with bare arrays, and /rerank with Jina's object where the body has documents.
func TestTEI(t *testing.T) {
	url := serving(t, Options{}, "embed", "colbert", "rerank")
	e, err := opened(t, "embed").Embedder()
	if err != nil {
		t.Fatal(err)
	}
	want, err := e.Encode(t.Context(), prompt.Texts(false, "the a", "er", "the a"), retriever.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var vectors [][]float64
	postArray(t, url+"/embed", `{"inputs": ["the a", "er"]}`, &vectors)
	if len(vectors) != 2 || math.Abs(vectors[1][0]-float64(want[1].Values[0])) > 1e-6 {
		t.Errorf("%v", vectors)
	}
	var similarities []float64
	postArray(t, url+"/similarity", `{"inputs": {"source_sentence": "the a", "sentences": ["er", "the a"]}}`, &similarities)
	if cosines, err := e.Similarity(want[0], want[1:]); err != nil || len(similarities) != 2 || math.Abs(similarities[0]-float64(cosines[0])) > 1e-6 || math.Abs(similarities[1]-1) > 1e-6 {
		t.Errorf("%v, want %v, %v", similarities, cosines, err)
	}
	var ranks []struct {
		Index int
		Score float64
		Text  string
	}
	postArray(t, url+"/rerank", `{"query": "the a", "texts": ["er", "b"], "return_text": true}`, &ranks)
	if len(ranks) != 2 || ranks[0].Score < ranks[1].Score || ranks[0].Text != []string{"er", "b"}[ranks[0].Index] {
		t.Errorf("%v", ranks)
	}
	if status, out := post(t, url+"/rerank", `{"query": "the a", "documents": ["er", "b"]}`); status != http.StatusOK || len(out["results"].([]any)) != 2 {
		t.Errorf("%d: %v", status, out)
	}
	status, out := post(t, url+"/pooling", `{"input": ["the a"]}`)
	if rows := out["data"].([]any); status != http.StatusOK || len(rows) != 1 || len(rows[0].(map[string]any)["data"].([]any)) < 2 {
		t.Errorf("%d: %v", status, out)
	}
}

// postArray posts a body and decodes the array that comes back.
func postArray(t *testing.T, url, body string, to any) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(to); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, r.StatusCode, err)
	}
}

// Errors have each API's status and form.
func TestErrors(t *testing.T) {
	url := serving(t, Options{MaxBodyBytes: 2000, MaxTexts: 3}, "embed", "rerank")
	for _, x := range []struct {
		route, body string
		status      int
		words       string
	}{
		{"/v1/embeddings", ``, 400, "the body is empty"},
		{"/v1/embeddings", `{"input":`, 400, "not JSON: unexpected end of JSON input at byte 9"},
		{"/v1/embeddings", `{"input": 5}`, 400, "want a text, a list of texts, or token ids"},
		{"/v1/embeddings", `{"input": []}`, 400, "input is missing or empty"},
		{"/v1/embeddings", `{"input": null}`, 400, "input"},
		{"/v1/embeddings", `{"input": "a", "encoding_format": "hex"}`, 400, "want float or base64"},
		{"/v1/embeddings", `{"input": "a", "dimensions": 999}`, 400, "dimensions is 999"},
		{"/v1/embeddings", `{"input": "a", "model": "absent"}`, 404, `"absent" is not served, want one of embed, rerank`},
		{"/v1/embeddings", `{"input": "a", "model": "rerank"}`, 400, "of kind reranker, want embedding"},
		{"/v1/embeddings", `{"input": ["a", "b", "c", "d"]}`, 400, "input has 4 texts, want at most 3"},
		{"/v1/embeddings", `{"input": "` + strings.Repeat("a", 3000) + `"}`, 413, "longer than 2000 bytes"},
		{"/v1/rerank", `{"documents": ["a"]}`, 400, "query is missing"},
		{"/v1/rerank", `{"query": "a"}`, 400, "documents is missing"},
		{"/v1/rerank", `{"query": "a", "documents": [{"title": "b"}]}`, 400, "an object with the field text"},
		{"/v2/rerank", `{"query": "a", "documents": ["a"], "top_n": 0}`, 400, "top_n is 0"},
	} {
		status, out := post(t, url+x.route, x.body)
		message, _ := out["message"].(string)
		if e, ok := out["error"].(map[string]any); ok {
			message, _ = e["message"].(string)
			if e["type"] != "invalid_request_error" {
				t.Errorf("%s: %v", x.body, out)
			}
		}
		if status != x.status || !strings.Contains(message, x.words) {
			t.Errorf("%s %.60s: %d %v, want %d %s", x.route, x.body, status, out, x.status, x.words)
		}
	}
	if r, err := http.Get(url + "/v1/embeddings"); err != nil || r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", r, err)
	}
}

// A server that has as many requests as it takes refuses more, and takes them again afterwards.
func TestOverload(t *testing.T) {
	m, err := OpenModel(t.Context(), "embed", folders["embed"], retriever.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := New([]*Model{m}, Options{MaxConcurrent: 1})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	embed := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/embeddings", strings.NewReader(`{"input": "a"}`)))
		return w
	}
	s.slots <- struct{}{}
	if w := embed(); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "rate_limit_exceeded") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	<-s.slots
	if w := embed(); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestModels(t *testing.T) {
	url := serving(t, Options{}, "embed", "rerank")
	r, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var out struct {
		Data []struct{ ID, Kind string }
	}
	if err := json.NewDecoder(r.Body).Decode(&out); err != nil || len(out.Data) != 2 || out.Data[0].ID != "embed" || out.Data[1].Kind != string(modelcard.Reranker) {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("a server without a model was made")
	}
	m := &Model{Name: "a"}
	if _, err := New([]*Model{m, m}, Options{}); err == nil || !strings.Contains(err.Error(), `two models have the name "a"`) {
		t.Errorf("two models of one name: %v", err)
	}
}

// While a model is replaced again and again, no request fails, and each replaced model is closed.
func TestReplace(t *testing.T) {
	s, url := started(t, Options{}, "embed")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := http.Post(url+"/v1/embeddings", "application/json", strings.NewReader(`{"model": "embed", "input": "a"}`))
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(r.Body)
				r.Body.Close()
				if r.StatusCode != http.StatusOK {
					t.Errorf("%d %s", r.StatusCode, b)
				}
			}
		})
	}
	for range 3 {
		old := s.Models()[0]
		m, err := OpenModel(t.Context(), "embed", folders["embed"], retriever.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Replace(m); err != nil {
			t.Fatal(err)
		}
		if s.Models()[0] == old {
			t.Error("the model was not replaced")
		}
	}
	close(stop)
	clients.Wait()
	if err := s.Replace(&Model{Name: "other"}); err == nil || err.Error() != `no model "other" is served` {
		t.Error(err)
	}
}
