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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"rag-retrieval-go/models/serve/page"
)

// Options are a server's limits. The zero value has TEI's.
type Options struct {
	// MaxBodyBytes is the longest body of a request; 0: 2 MB.
	MaxBodyBytes int64
	// MaxTexts is how many texts or documents a request may have; 0: 10,000, as many as Cohere's API takes.
	MaxTexts int
	// Version is the program's, for GET /info.
	Version string
	// MaxConcurrent is how many requests may be in work or wait; 0: 512. Further ones get 429.
	MaxConcurrent int
	// RequestTimeout is how long a request may wait and be computed before it gets 504; 0: 2 minutes.
	RequestTimeout time.Duration
	// Keys are the API keys of which a request must have one; nil: requests need none.
	Keys *Keys
	// Log gets a line for each request, with its id, and for what goes wrong; nil: none. It never gets texts or keys.
	Log *slog.Logger
	// Tracer makes a span for each request, and below it one for each wait in the queue and each run of the model; nil: none.
	Tracer trace.Tracer
}

func (o Options) withDefaults() Options {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 2_000_000
	}
	if o.MaxTexts == 0 {
		o.MaxTexts = 10_000
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 512
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 2 * time.Minute
	}
	if o.Tracer == nil {
		o.Tracer = noSpans
	}
	if o.Log == nil {
		o.Log = discard
	}
	return o
}

// Server answers requests with its models.
type Server struct {
	o      Options
	slots  chan struct{} // one for each request that may be in work
	bodies chan struct{} // one for each body that may be read at a time: what is read of them is in memory
	pace   pace          // at which requests end

	leaving, draining atomic.Bool // see Leave, Drain
	inWork            atomic.Int64
	metrics           *metrics

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
	s := &Server{models: models, o: o, slots: make(chan struct{}, o.MaxConcurrent), bodies: make(chan struct{}, bodiesPerSlot*o.MaxConcurrent)}
	s.metrics = newMetrics(s)
	for _, m := range models {
		s.observe(m)
	}
	return s, nil
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
		{"POST", "/embeddings", openAI, s.openAIEmbeddings}, // Infinity's and TEI's
		{"GET", "/v1/models", openAI, s.openAIModels},
		{"GET", "/v1/models/{id...}", openAI, s.openAIOneModel},
		{"POST", "/pooling", openAI, s.pooling},
		{"POST", "/v1/rerank", cohere, s.jinaRerank},
		{"POST", "/v2/rerank", cohere, s.cohereRerank},
		{"POST", "/embed", tei, s.teiEmbed},
		{"POST", "/rerank", tei, s.rerank},
		{"POST", "/similarity", tei, s.teiSimilarity},
		{"POST", "/page/matches", pageAPI, s.pageMatches},
		{"POST", "/tokenize", tei, s.teiTokenize},
		{"GET", "/info", tei, s.teiInfo},
		{"POST", "/{$}", tei, s.teiAny},
	}
}

// Handler answers all routes.
func (s *Server) Handler() http.Handler {
	mux, methods := http.NewServeMux(), map[string][]string{}
	handle := func(method, path string, h http.Handler) {
		mux.Handle(method+" "+path, h)
		methods[path] = append(methods[path], method)
	}
	for _, r := range s.routes() {
		handle(r.method, r.path, s.answer(r))
	}
	handle("GET", "/{$}", page.Handler())
	handle("GET", "/page/", page.Handler())
	handle("GET", "/openapi.json", http.HandlerFunc(s.openAPI))
	handle("GET", "/health", http.HandlerFunc(s.health))
	handle("GET", "/ready", http.HandlerFunc(s.ready))
	handle("GET", "/metrics", s.metrics.handler())
	for path, allowed := range methods {
		if !strings.HasPrefix(path, "/page/") || path == "/page/" { // within it, any path may be a file's
			mux.Handle(path, s.wrongMethod(path, allowed))
		}
	}
	mux.HandleFunc("/", s.unknown)
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(s.otherOrigin))
	return s.observed(s.guarded(s.untilDrain(crossOrigin.Handler(mux))))
}

// answer answers a route's requests. A body is read before the request takes a slot, and the slot and the model are given back before the
// response is written: a slow client holds neither while it sends or reads.
func (s *Server) answer(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := s.bodyOf(w, r, route)
		if err == nil {
			s.inWork.Add(1) // before it looks whether the server drains: Drain looks in the other order
			defer s.inWork.Add(-1)
			err = s.respond(w, r, route, sent)
		}
		if err != nil {
			s.fail(w, r, route.api, err)
		}
	})
}

// bodyOf reads the body of a request that has one.
func (s *Server) bodyOf(w http.ResponseWriter, r *http.Request, route route) ([]byte, error) {
	if route.method != http.MethodPost {
		return nil, nil
	}
	if len(s.slots) == cap(s.slots) {
		return nil, s.full(w)
	}
	select {
	case s.bodies <- struct{}{}:
		defer func() { <-s.bodies }()
		return s.readBody(w, r)
	default:
		return nil, s.full(w)
	}
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request, route route, sent []byte) error {
	if s.draining.Load() {
		return s.ending(w)
	}
	b, err := s.compute(w, r, route, sent)
	if err == nil {
		write(w, http.StatusOK, b)
	}
	return err
}

// compute makes the body of a response.
func (s *Server) compute(w http.ResponseWriter, r *http.Request, route route, sent []byte) ([]byte, error) {
	if route.method == http.MethodPost {
		done, err := s.admit(w)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.o.RequestTimeout, errTooLong(s.o.RequestTimeout))
	defer cancel()
	c := newCall(s, r.WithContext(ctx), sent)
	c.header = w.Header()
	defer c.release()
	body, err := route.handle(c)
	if err != nil {
		if ctx.Err() != nil && r.Context().Err() == nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return encode(body)
}

// errTooLong is the error of a request that took too long.
func errTooLong(limit time.Duration) error {
	return &Error{Status: http.StatusGatewayTimeout, Kind: timeout, Message: fmt.Sprintf("the request took longer than %v", limit)}
}
