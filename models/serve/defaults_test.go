package serve

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// A field that is null is one that is not there.
func TestNullFields(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed", "rerank")
	for body, shape := range map[string]string{
		`{"inputs": "a", "query": null, "texts": null, "documents": null}`:  "[[",
		`{"query": "a", "texts": ["b"], "documents": null, "inputs": null}`: `[{"index":0`,
		`{"query": "a", "documents": ["b"], "texts": null}`:                 `{"created"`,
	} {
		if w := ask(h, "POST", "/", body); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), shape) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// Jina's clients get the documents without asking, Cohere's and others' do not.
func TestReturnDocuments(t *testing.T) {
	_, h, _ := local(t, Options{}, "rerank")
	for _, x := range []struct {
		path, field string
		want        bool
	}{
		{"/v1/rerank", ``, true},
		{"/v1/rerank", `, "return_documents": null`, true},
		{"/v1/rerank", `, "return_documents": false`, false},
		{"/v1/rerank", `, "max_chunks_per_doc": 10`, false},
		{"/v1/rerank", `, "rank_fields": ["text"]`, false},
		{"/v1/rerank", `, "rank_fields": ["text"], "return_documents": true`, true},
		{"/v2/rerank", ``, false},
		{"/rerank", ``, false},
		{"/rerank", `, "return_documents": true`, true},
	} {
		w := ask(h, "POST", x.path, `{"query": "a", "documents": ["b"]`+x.field+`}`)
		if got := strings.Contains(w.Body.String(), `"document":{"text":"b"}`); w.Code != http.StatusOK || got != x.want {
			t.Errorf("%v: %d %s", x, w.Code, w.Body)
		}
	}
}

// GET /info shows no path of the server.
func TestInfoHasNoPath(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	if w := ask(h, "GET", "/info", ""); w.Code != http.StatusOK || !contains(w, `"model_id":"embed"`) || contains(w, folders["embed"]) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A wrong encoding_format is told before the model runs.
func TestEncodingFormatFirst(t *testing.T) {
	_, h, l := local(t, Options{}, "embed")
	if w := ask(h, "POST", "/v1/embeddings", `{"input": "a", "encoding_format": "hex"}`); w.Code != http.StatusBadRequest || !contains(w, "want float or base64") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if line := l.lines(t)[0]; line["tokens"] != 0.0 {
		t.Errorf("%v", line)
	}
}

// Vectors of more tokens than a response may have are refused before they are computed: what is counted is at least what would come.
func TestManyVectors(t *testing.T) {
	s, _, _ := local(t, Options{}, "colbert")
	m := s.Models()[0]
	in := inputs{{text: "the a"}, {text: strings.Repeat("a ", 100)}, {ids: []int64{2, 5, 3}}}
	embeddings, err := m.embed(t.Context(), in, false, retriever.EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	numbers := 0
	for _, e := range embeddings {
		numbers += len(e.Values)
	}
	var refused *Error
	if err := m.checkNumbers(t.Context(), in, numbers-1); !errors.As(err, &refused) || refused.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d numbers: %v", numbers, err)
	}
	if err := m.checkNumbers(t.Context(), in, 3*longest(m.m.Info())*int(m.m.Info().Dimension)); err != nil {
		t.Error(err)
	}
}

// A text that the tokenizer does not take is the client's mistake, and the log does not show it.
func TestTextErrors(t *testing.T) {
	e := explain(httptest.NewRequest("POST", "/rerank", nil), &retriever.TextError{Err: errors.New("geheim")})
	if e.Status != http.StatusUnprocessableEntity || strings.Contains(e.logged(), "geheim") {
		t.Errorf("%+v", e)
	}
}
