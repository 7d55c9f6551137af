package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// unread is a client that does not read its response until it goes on.
type unread struct {
	*httptest.ResponseRecorder
	came chan struct{} // closed when the response is written
	goOn chan struct{}
}

func (u unread) Write(b []byte) (int, error) {
	close(u.came)
	<-u.goOn
	return u.ResponseRecorder.Write(b)
}

// A client that does not read its response holds no slot and no model, and is in work until it was written.
func TestSlowReaderHoldsNothing(t *testing.T) {
	s, _, _ := local(t, Options{MaxConcurrent: 1}, "embed")
	h := s.Handler()
	u, done := unread{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}, make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(u, httptest.NewRequest("POST", "/embed", strings.NewReader(`{"inputs": "a"}`)))
	}()
	<-u.came
	if w := ask(h, "POST", "/embed", `{"inputs": "b"}`); w.Code != http.StatusOK {
		t.Errorf("the slot: %d %s", w.Code, w.Body)
	}
	m, err := OpenModel(t.Context(), "embed", folders["embed"], retriever.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(m); err != nil { // waits for those who use the old model
		t.Error(err)
	}
	if n := s.inWork.Load(); n != 1 {
		t.Errorf("%d in work", n)
	}
	close(u.goOn)
	<-done
	if u.Code != http.StatusOK || s.inWork.Load() != 0 {
		t.Errorf("%d %s", u.Code, u.Body)
	}
}

// The error of closing a model that was replaced is not that of Replace: the new one is served.
func TestReplaceLogsClose(t *testing.T) {
	s, h, _ := local(t, Options{}, "embed")
	if err := s.Models()[0].Close(); err != nil {
		t.Fatal(err)
	}
	m, err := OpenModel(t.Context(), "embed", folders["embed"], retriever.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(m); err != nil {
		t.Error(err)
	}
	if w := ask(h, "POST", "/embed", `{"inputs": "a"}`); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// drains calls something when it is read to its end.
type drains struct {
	io.Reader
	f func()
}

func (d drains) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	if err != nil {
		d.f()
	}
	return n, err
}

// A body that was still being sent when the server drained holds nobody, and gets 503.
func TestDrainWithinBody(t *testing.T) {
	s, h, _ := local(t, Options{}, "embed")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/embed", drains{strings.NewReader(`{"inputs": "a"}`), func() {
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	}}))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" || !contains(w, "Unhealthy") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// Only so many bodies are read at a time.
func TestManyBodies(t *testing.T) {
	s, h, _ := local(t, Options{MaxConcurrent: 1}, "embed")
	for range bodiesPerSlot {
		s.bodies <- struct{}{}
	}
	if w := ask(h, "POST", "/embed", `{"inputs": "a"}`); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	<-s.bodies
	if w := ask(h, "POST", "/embed", `{"inputs": "a"}`); w.Code != http.StatusOK || len(s.bodies) != bodiesPerSlot-1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The pages of other web sites cannot use a server by their readers' browsers; its own page, and programs, can.
func TestOtherOrigins(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed", "rerank")
	for _, x := range []struct {
		path, header, value string
		status              int
		shape               string
	}{
		{"/embed", "Sec-Fetch-Site", "cross-site", 403, `"error_type":"Forbidden"`},
		{"/v1/embeddings", "Origin", "https://elsewhere.example", 403, `{"error":{"code":`},
		{"/v2/rerank", "Sec-Fetch-Site", "same-site", 403, `{"detail":`},
		{"/embed", "Sec-Fetch-Site", "same-origin", 200, ""},
		{"/embed", "Origin", "http://example.com", 200, ""}, // the host of httptest's requests
		{"/embed", "User-Agent", "curl", 200, ""},
	} {
		w := ask(h, "POST", x.path, `{"inputs": "a"}`, x.header, x.value, "Content-Type", "text/plain")
		if w.Code != x.status || !contains(w, x.shape) {
			t.Errorf("%v: %d %s", x, w.Code, w.Body)
		}
	}
	if w := ask(h, "GET", "/v1/models", "", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusOK {
		t.Errorf("what changes and costs nothing: %d", w.Code)
	}
}
