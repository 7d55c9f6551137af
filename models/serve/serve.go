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
	"io"
	"net/http"
	"strings"

	"rag-retrieval-go/models/modelcard"
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
	models []*Model
	o      Options
	slots  chan struct{} // one for each request that may be in work
}

// New returns a server of some models. Their names must differ.
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

// Handler answers all routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for route, h := range map[string]func(*http.Request) (any, error){
		"POST /v1/embeddings": s.openAIEmbeddings,
		"GET /v1/models":      s.openAIModels,
		"POST /pooling":       s.pooling,
	} {
		mux.Handle(route, s.answer(openAI, h))
	}
	for route, h := range map[string]func(*http.Request) (any, error){
		"POST /v1/rerank": s.jinaRerank,
		"POST /v2/rerank": s.cohereRerank,
	} {
		mux.Handle(route, s.answer(cohere, h))
	}
	for route, h := range map[string]func(*http.Request) (any, error){
		"POST /embed":      s.teiEmbed,
		"POST /rerank":     s.rerank,
		"POST /similarity": s.teiSimilarity,
	} {
		mux.Handle(route, s.answer(tei, h))
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// answer makes a handler of a function that returns a response's body.
func (s *Server) answer(api api, f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			api.fail(w, &Error{Status: http.StatusTooManyRequests, Kind: overloaded, Message: "the server has as many requests as it takes; try again"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBodyBytes)
		body, err := f(r)
		if err != nil {
			api.fail(w, explain(r, err))
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

// read reads a request's JSON body.
func read(r *http.Request, to any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return invalid("the body is empty, want a JSON object")
	}
	if err := json.Unmarshal(b, to); err != nil {
		return invalid("the body is not as it should be: %v", err)
	}
	return nil
}

// model finds a model by its name, or where the name is empty the first one of the first of the kinds that is served.
func (s *Server) model(name string, kinds ...modelcard.Kind) (*Model, error) {
	for _, k := range kinds {
		for _, m := range s.models {
			if m.Kind() == k && (name == "" || m.Name == name) {
				return m, nil
			}
		}
	}
	if name == "" {
		return nil, &Error{Status: http.StatusNotFound, Kind: notFound, Message: fmt.Sprintf("no model of kind %s is served", list(kinds))}
	}
	for _, m := range s.models {
		if m.Name == name {
			return nil, &Error{Status: http.StatusBadRequest, Kind: validation, Message: fmt.Sprintf("the model %q is of kind %s, want %s", name, m.Kind(), list(kinds))}
		}
	}
	var names []string
	for _, m := range s.models {
		names = append(names, m.Name)
	}
	return nil, &Error{Status: http.StatusNotFound, Kind: notFound, Message: fmt.Sprintf("the model %q is not served, want one of %s", name, strings.Join(names, ", "))}
}

func list(kinds []modelcard.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, " or ")
}
