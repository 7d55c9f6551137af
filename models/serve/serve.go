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
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"rag-retrieval-go/models/serve/page"
)

// Options are a server's limits. The zero value has TEI's.
type Options struct {
	// MaxBodyBytes is the longest body of a request; 0: 2 MB.
	MaxBodyBytes int64
	// MaxTexts is how many texts or documents a request may have; 0: 1,000 (Cohere's and Jina's clients send as many).
	MaxTexts int
	// MaxConcurrent is how many requests may be in work or wait; 0: 512. Further ones get 429.
	MaxConcurrent int
	// Log gets a line for each request, with its id, and for what goes wrong; nil: none. It never gets texts or keys.
	Log *slog.Logger
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
	if o.Log == nil {
		o.Log = discard
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
	mux, routes := http.NewServeMux(), s.routes()
	for _, r := range routes {
		mux.Handle(r.method+" "+r.path, s.answer(r))
	}
	files := page.Handler().ServeHTTP
	mux.Handle("GET /{$}", named("/", files))
	mux.Handle("GET /page/", named("/page/", files))
	mux.Handle("GET /health", named("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	mux.Handle("/", s.unknown(routes))
	return s.observed(mux)
}

// named is a handler whose requests the log and the metrics count under a route's name.
func named(route string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recordOf(r.Context()).route = route
		h(w, r)
	})
}

// answer answers a route's requests.
func (s *Server) answer(route route) http.Handler {
	return named(route.path, func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			s.fail(w, r, route.api, &Error{Status: http.StatusTooManyRequests, Kind: overloaded, Message: "the server has as many requests as it takes; try again"})
			return
		}
		if err := s.readBody(w, r); err != nil {
			s.fail(w, r, route.api, err)
			return
		}
		c := newCall(s, r)
		defer c.release()
		body, err := route.handle(c)
		if err == nil {
			err = writeJSON(w, http.StatusOK, body)
		}
		if err != nil {
			s.fail(w, r, route.api, err)
		}
	})
}
