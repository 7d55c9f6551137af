// Package serve answers HTTP requests with models, in the APIs that applications already speak: OpenAI's embeddings, Cohere's, Jina's
// and Infinity's rerank, those of Text Embeddings Inference (TEI), and vLLM's pooling for ColBERT models.
//
//	m, err := serve.OpenModel(ctx, "embed", "out/model", options)
//	s, err := serve.New([]*serve.Model{m}, serve.Options{})
//	http.ListenAndServe("127.0.0.1:8080", s.Handler())
//
// A handler turns a body into texts, calls the model, and writes what the API's own servers write, errors included. Models join the
// batches of concurrent requests (scoring.Queue); nothing here computes. The package knows no command line.
package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// Options are a server's limits. The zero value has TEI's.
type Options struct {
	// MaxBodyBytes is the longest body of a request; 0: 2 MB.
	MaxBodyBytes int64
	// MaxTexts is how many texts or documents a request may have; 0: 1,000 (Cohere's and Jina's clients send as many).
	MaxTexts int
	// MaxConcurrent is how many requests may be in work or wait; 0: 512. Further ones get 429.
	MaxConcurrent int
}

func (o Options) withDefaults() Options {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 2_000_000
	}
	if o.MaxTexts == 0 {
		o.MaxTexts = 1000
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 512
	}
	return o
}

// Server answers requests with its models.
type Server struct {
	o     Options
	slots chan struct{} // one for each request that may be in work

	mu     sync.RWMutex
	models []*Model // Replace writes it, and copies it first
}

// New returns a server of some models. Their names must differ. The server closes them.
func New(models []*Model, o Options) (*Server, error) {
	names := map[string]bool{}
	for _, m := range models {
		if names[m.Name] {
			return nil, fmt.Errorf("two models have the name %q", m.Name)
		}
		names[m.Name] = true
	}
	if len(models) == 0 {
		return nil, errors.New("there is no model to serve")
	}
	o = o.withDefaults()
	return &Server{models: models, o: o, slots: make(chan struct{}, o.MaxConcurrent)}, nil
}

// A route is a method and path of one of the APIs.
type route struct {
	method, path string
	api          api // how errors are written
	// handle returns the body of the response.
	handle func(*call) (any, error)
}

// routes are the routes of all APIs.
func (s *Server) routes() []route {
	return []route{
		{"POST", "/v1/embeddings", openAI, s.openAIEmbeddings},
		{"GET", "/v1/models", openAI, s.openAIModels},
		{"POST", "/pooling", openAI, s.pooling},
		{"POST", "/v1/rerank", cohere, s.jinaRerank},
		{"POST", "/v2/rerank", cohere, s.cohereRerank},
		{"POST", "/embed", tei, s.teiEmbed},
		{"POST", "/rerank", tei, s.rerank},
		{"POST", "/similarity", tei, s.teiSimilarity},
	}
}

// Handler answers all routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.method+" "+r.path, s.answer(r))
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// answer answers a route's requests.
func (s *Server) answer(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			route.api.fail(w, &Error{Status: http.StatusTooManyRequests, Kind: overloaded, Message: "the server has as many requests as it takes; try again"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBodyBytes)
		c := newCall(s, r)
		defer c.release()
		body, err := route.handle(c)
		if err != nil {
			route.api.fail(w, explain(r, err))
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // fails where the client has gone
}
