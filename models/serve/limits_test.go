package serve

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Retry-After is the time in which a full server works off what it has.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		if got := p.retryAfter(500); got != 1 {
			t.Errorf("before any request: %d s", got)
		}
		p.begin(time.Now(), 1)
		for range 200 { // 10 requests/s, two at once
			time.Sleep(200 * time.Millisecond)
			p.end(time.Now())
			p.end(time.Now())
		}
		if got := p.retryAfter(100); got < 9 || got > 12 {
			t.Errorf("%d s for 100 requests at 10 a second", got)
		}
		time.Sleep(time.Hour) // an idle hour says nothing of the pace
		p.begin(time.Now(), 1)
		time.Sleep(100 * time.Millisecond)
		p.end(time.Now())
		if got := p.retryAfter(100); got < 9 || got > 12 {
			t.Errorf("%d s after a pause", got)
		}
		if got := p.retryAfter(100_000); got != maxRetryAfter {
			t.Errorf("%d s for 100,000 requests", got)
		}
	})
}

// A request that takes too long is a 504 in the form of each API, also where it only waits for the model.
func TestRequestTimeout(t *testing.T) {
	_, h, l := local(t, Options{RequestTimeout: time.Nanosecond}, "embed", "rerank")
	for path, x := range map[string]struct{ body, shape string }{
		"/v1/embeddings": {`{"input": "a"}`, `{"error":{"code":`},
		"/v2/rerank":     {`{"query": "a", "documents": ["b"]}`, `{"detail":`},
		"/embed":         {`{"inputs": "a"}`, `"error_type":"Timeout"`},
	} {
		w := ask(h, "POST", path, x.body)
		if w.Code != http.StatusGatewayTimeout || !contains(w, x.shape, "longer than 1ns") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if line := l.lines(t)[0]; line["level"] != "ERROR" || line["status"] != 504.0 {
		t.Errorf("%v", line)
	}
}

// Where all slots are taken, a request is refused before its body is read.
func TestFullBeforeBody(t *testing.T) {
	s, h, l := local(t, Options{MaxConcurrent: 1}, "embed")
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	if w := ask(h, "POST", "/embed", `{"inputs": "a"}`); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || l.lines(t)[0]["bytes_in"] != 0.0 {
		t.Errorf("%d %v %s", w.Code, w.Header(), l)
	}
	if w := ask(h, "GET", "/v1/models", ""); w.Code != http.StatusOK {
		t.Errorf("a question that needs no model: %d %s", w.Code, w.Body)
	}
}

// A request that is computed for too long gets its 504 then, and not when the computation has ended.
func TestRequestTimeoutWhileRunning(t *testing.T) {
	_, h, _ := local(t, Options{RequestTimeout: 20 * time.Millisecond}, "rerank")
	body := `{"query": "the a", "documents": ["` + strings.Repeat(strings.Repeat("the er b ", 300)+`","`, 700) + `a"]}`
	w := ask(h, "POST", "/v2/rerank", body)
	if w.Code != http.StatusGatewayTimeout || !contains(w, "longer than 20ms") {
		t.Errorf("%d %.200s", w.Code, w.Body)
	}
}

// deadlines is a connection that notes until when writes must be done.
type deadlines struct {
	http.ResponseWriter
	until []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.until = append(d.until, t)
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	return len(b), nil
}

// A client has some time for a whole response, and more for a long one.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deadlines{ResponseWriter: httptest.NewRecorder()}
		w := &response{ResponseWriter: d}
		start := time.Now()
		for range 2 {
			if n, err := w.Write(make([]byte, 2*writeRate)); n != 2*writeRate || err != nil {
				t.Errorf("%d %v", n, err)
			}
			time.Sleep(time.Second) // what was written slowly has no more time
		}
		want := []time.Time{start.Add(writePatience + 2*time.Second), start.Add(writePatience + 4*time.Second)}
		if !slices.EqualFunc(d.until, want, time.Time.Equal) || w.written != 4*writeRate || w.status != http.StatusOK {
			t.Errorf("%v, want %v, %d %d", d.until, want, w.written, w.status)
		}
	})
}
