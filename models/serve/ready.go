package serve

import (
	"context"
	"net/http"
	"time"
)

// A server ends in two steps. Leave comes first: load balancers that ask /ready learn that they shall send requests elsewhere, while
// those that still come are answered. After Drain new requests are refused, and those in work go on.

// Leave makes GET /ready answer 503.
func (s *Server) Leave() { s.leaving.Store(true) }

// Drain refuses new requests with 503 and Retry-After, and waits until none is in work or the context ends. A request is in work from when
// its whole body is there until its response is written.
func (s *Server) Drain(ctx context.Context) error {
	s.Leave()
	s.draining.Store(true)
	for s.inWork.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// InWork is the number of requests in work.
func (s *Server) InWork() int { return int(s.inWork.Load()) }

// untilDrain refuses requests after Drain before their bodies are read, but for those that need no key: probes and the page.
func (s *Server) untilDrain(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() && !needsNoKey(r) {
			s.fail(w, r, apiOf(r.URL.Path), s.ending(w))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ending is the error of a request that comes after Drain. Its connection ends with it.
func (s *Server) ending(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close")
	w.Header().Set("Retry-After", "1") // another server, or this one's successor
	return &Error{Status: http.StatusServiceUnavailable, Kind: unhealthy, Message: "the server is ending; try again"}
}

// ready answers GET /ready: whether requests should be sent here.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.leaving.Load() {
		s.fail(w, r, tei, &Error{Status: http.StatusServiceUnavailable, Kind: unhealthy, Message: "the server is ending"})
		return
	}
	_ = writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// health answers GET /health: the process is alive.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
