package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func contains(w *httptest.ResponseRecorder, words ...string) bool {
	for _, x := range words {
		if !strings.Contains(w.Body.String(), x) {
			return false
		}
	}
	return true
}

func TestKeys(t *testing.T) {
	keys := NewKeys("alpha-1", "beta-2")
	_, h, l := local(t, Options{Keys: keys}, "embed")
	try := func(authorization string) int {
		return ask(h, "POST", "/v1/embeddings", `{"input": "a"}`, "Authorization", authorization).Code
	}
	for authorization, want := range map[string]int{
		"Bearer alpha-1": 200, "bearer beta-2": 200, "Bearer  beta-2": 200, "": 401, "Bearer": 401, "Bearer ": 401, "alpha-1": 401, "Basic alpha-1": 401,
		"Bearer alpha-": 401, "Bearer alpha-1 beta-2": 401, "Bearer ALPHA-1": 401,
	} {
		if got := try(authorization); got != want {
			t.Errorf("%q: %d, want %d", authorization, got, want)
		}
	}
	for path, shape := range map[string]string{"/v1/embeddings": `"code":"invalid_api_key"`, "/v2/rerank": `"detail":"the API key`, "/embed": `"error_type":"Unauthorized"`, "/nowhere": "API key", "/page/matches": "API key"} {
		w := ask(h, "POST", path, "{}", "Authorization", "Bearer geheim")
		if w.Code != http.StatusUnauthorized || !contains(w, shape) || w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
	}
	for _, path := range []string{"/health", "/ready", "/metrics", "/", "/page/style.css"} {
		if w := ask(h, "GET", path, ""); w.Code != http.StatusOK {
			t.Errorf("%s needs a key: %d", path, w.Code)
		}
	}
	if w := ask(h, "GET", "/v1/models", ""); w.Code != http.StatusUnauthorized {
		t.Errorf("/v1/models without a key: %d", w.Code)
	}
	keys.Set([]string{"gamma-3"})
	if try("Bearer alpha-1") != 401 || try("Bearer gamma-3") != 200 {
		t.Error("the keys were not replaced")
	}
	for _, secret := range []string{"alpha-1", "beta-2", "gamma-3", "geheim"} {
		if strings.Contains(l.String(), secret) {
			t.Errorf("the log has a key: %s", l)
		}
	}
}

// A server that ends says so to load balancers at first, and then refuses requests.
func TestDrain(t *testing.T) {
	s, h, _ := local(t, Options{}, "embed")
	embed := func() *httptest.ResponseRecorder { return ask(h, "POST", "/embed", `{"inputs": "a"}`) }
	if w := ask(h, "GET", "/ready", ""); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
	s.Leave()
	if w := ask(h, "GET", "/ready", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := embed(); w.Code != http.StatusOK {
		t.Errorf("a request before Drain: %d %s", w.Code, w.Body)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if w := embed(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" || !contains(w, "Unhealthy") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := ask(h, "GET", "/health", ""); w.Code != http.StatusOK {
		t.Errorf("the process is alive: %d", w.Code)
	}
}

// Over HTTP/2 too, a refused request gets its answer whole, however long its body is.
func TestRefusedOverHTTP2(t *testing.T) {
	s, _ := started(t, Options{Keys: NewKeys("right")}, "embed")
	h := httptest.NewUnstartedServer(s.Handler())
	h.EnableHTTP2 = true
	h.StartTLS()
	defer h.Close()
	for range 20 {
		r, err := h.Client().Post(h.URL+"/v1/embeddings", "application/json", strings.NewReader(`{"input":"`+strings.Repeat("a", 1<<20)+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusUnauthorized || r.ProtoMajor != 2 || !strings.Contains(string(b), "the API key is missing or wrong") {
			t.Fatalf("%v %s %s %q", err, r.Proto, r.Status, b)
		}
	}
}
