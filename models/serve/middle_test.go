package serve

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"rag-retrieval-go/models/retriever"
)

// logged is a log that tests read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines are the log's lines so far.
func (l *logged) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var x map[string]any
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, x)
	}
	return lines
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// local is a server without a network, and what it logs.
func local(t *testing.T, o Options, names ...string) (*Server, http.Handler, *logged) {
	t.Helper()
	var l logged
	o.Log = l.logger()
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
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, checked(t, s.Handler()), &l
}

// ask sends a request, whose headers are pairs of a name and a value.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A request has one line in the log, with what it was and took, and nothing of its texts.
func TestRequestLog(t *testing.T) {
	_, h, l := local(t, Options{}, "embed", "rerank")
	w := ask(h, "POST", "/v1/embeddings", `{"model": "embed", "input": ["geheim a", "b"]}`, "X-Request-Id", "client-7")
	if w.Code != http.StatusOK || w.Header().Get("X-Request-Id") != "client-7" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	line := l.lines(t)[0]
	for key, want := range map[string]any{
		"level": "INFO", "msg": "request", "id": "client-7", "method": "POST", "route": "/v1/embeddings", "model": "embed", "status": 200.0, "texts": 2.0,
		"bytes_in": 46.0, "bytes_out": float64(w.Body.Len()),
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v: %v", key, line[key], want, line)
		}
	}
	for _, key := range []string{"tokens", "inference_ms", "total_ms"} {
		if x, _ := line[key].(float64); x <= 0 {
			t.Errorf("%s is %v: %v", key, line[key], line)
		}
	}
	for i, body := range []string{
		`{"input": {"geheim": 1}}`, `{"input": "a", "model": "geheim"}`, `{"input": "a", "encoding_format": "geheim"}`, `{"input": "a", "dimensions": "geheim"}`, `geheim`,
	} {
		w := ask(h, "POST", "/v1/embeddings", body)
		lines := l.lines(t)
		last := lines[len(lines)-1]
		if w.Code/100 != 4 || len(lines) != i+2 || last["level"] != "WARN" || last["error"] == nil || last["status"] != float64(w.Code) {
			t.Errorf("%s: %d: %v", body, w.Code, last)
		}
	}
	ask(h, "POST", "/rerank", `{"query": "geheim", "documents": [{"title": "geheim"}]}`)
	ask(h, "GET", "/nowhere?key=geheim", "", "Authorization", "Bearer geheim")
	if strings.Contains(l.String(), "geheim") {
		t.Errorf("the log has something of the requests' content: %s", l)
	}
	if !strings.Contains(l.String(), `"error":"the model \"…\" is not served, want one of …"`) {
		t.Errorf("the log does not have the reasons of errors: %s", l)
	}
}

// An id that could harm a log's reader is replaced.
func TestRequestID(t *testing.T) {
	for _, good := range []string{"a", "3f2b:1/4-x_y.z=", strings.Repeat("a", 128)} {
		if got := requestID(good); got != good {
			t.Errorf("%q became %q", good, got)
		}
	}
	seen := map[string]bool{}
	for _, bad := range []string{"", "a b", "a\nlevel=ERROR", `"`, "ä", strings.Repeat("a", 129)} {
		got := requestID(bad)
		if got == bad || len(got) < 20 || seen[got] {
			t.Errorf("%q became %q", bad, got)
		}
		seen[got] = true
	}
}

// A panic is a 500 in the API's form and a line with the stack; the server goes on.
func TestPanic(t *testing.T) {
	s, _, l := local(t, Options{}, "embed")
	h := s.observed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }))
	w := ask(h, "POST", "/v1/embeddings", "{}", "X-Request-Id", "x1")
	var out struct {
		Error struct{ Message, Type string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusInternalServerError || out.Error.Type != "server_error" || !strings.Contains(out.Error.Message, "x1") {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	lines := l.lines(t)
	if len(lines) != 2 || lines[0]["panic"] != "oops" || lines[0]["id"] != "x1" || !strings.Contains(lines[0]["stack"].(string), "TestPanic") || lines[1]["status"] != 500.0 {
		t.Errorf("%v", lines)
	}
}

// What is no request of an API is told so, in the form of the API that the path is of.
func TestUnknown(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	for _, x := range []struct {
		method, path, contentType, body string
		status                          int
		words                           string
	}{
		{"GET", "/v1/nothing", "", "", 404, `"error":{`},
		{"GET", "/v2/nothing", "", "", 404, `"message":`},
		{"POST", "/nothing", "", "", 404, `"error_type":"NotFound"`},
		{"GET", "/v1/embeddings", "", "", 405, `want POST`},
		{"DELETE", "/embed", "", "", 405, `"error_type":"Validation"`},
		{"POST", "/v1/embeddings", "multipart/form-data; boundary=x", `{"input": "a"}`, 415, `want application/json`},
		{"POST", "/embed", "application/xml", `{"inputs": "a"}`, 415, `want application/json`},
		{"POST", "/v1/embeddings", "application/json; charset=utf-8", `{"input": "a"}`, 200, `"embedding"`},
		{"POST", "/v1/embeddings", "application/x-www-form-urlencoded", `{"input": "a"}`, 200, `"embedding"`},
		{"POST", "/v1/embeddings", "", `{"input": "a"}`, 200, `"embedding"`},
	} {
		var headers []string
		if x.contentType != "" {
			headers = []string{"Content-Type", x.contentType}
		}
		w := ask(h, x.method, x.path, x.body, headers...)
		if w.Code != x.status || !strings.Contains(w.Body.String(), x.words) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s: %d %s", x.method, x.path, x.contentType, w.Code, w.Body)
		}
	}
	if w := ask(h, "PUT", "/v1/embeddings", ""); w.Header().Get("Allow") != "POST" {
		t.Errorf("%v", w.Header())
	}
	if w := ask(h, "POST", "/embed", "xx", "Content-Encoding", "gzip"); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
