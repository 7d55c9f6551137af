package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// observed gives every request an id and a record, which is logged when it has been answered. A panic becomes a 500 with a line that
// has its stack.
func (s *Server) observed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		x, w := newRecord(r), &response{ResponseWriter: rw}
		w.Header().Set(headerRequestID, x.id)
		if s.leaving.Load() {
			w.Header().Set("Connection", "close") // the client's next request goes to another server
		}
		r = r.WithContext(context.WithValue(s.startSpan(r, x), recordKey{}, x))
		r.Body = countedBody{r.Body, x}
		defer s.finish(w, r, x)
		h.ServeHTTP(w, r)
	})
}

// finish ends a request, also one whose handler panicked.
func (s *Server) finish(w *response, r *http.Request, x *record) {
	if _, path, _ := strings.Cut(r.Pattern, " "); path != "" { // the mux says which route it took
		x.route = strings.TrimSuffix(path, "{$}")
	}
	cut := false
	if p := recover(); p != nil {
		if cut = p == http.ErrAbortHandler; !cut { // the library's way to cut a connection
			s.o.Log.Error("panic", "id", x.id, "route", x.shownRoute(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			x.err = &Error{Status: http.StatusInternalServerError, Kind: backend, Message: "the server made a mistake; its log has more under the id " + x.id}
			if cut = w.status != 0; !cut {
				apiOf(r.URL.Path).fail(w, x.err)
			}
		}
	}
	if w.status == 0 { // nothing was written: the client has gone, or the library will write 200
		if w.status = http.StatusOK; x.err != nil {
			w.status = x.err.Status
		}
	}
	x.endSpan(w.status)
	s.metrics.request(x, w.status)
	x.log(s.o.Log, w)
	if cut {
		panic(http.ErrAbortHandler)
	}
}

// fail answers with an error, in an API's form. A client that has gone gets no answer.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, a api, err error) {
	e := explain(r, err)
	recordOf(r.Context()).err = e
	if e.Status == statusGone {
		return
	}
	if r.ProtoMajor > 1 { // HTTP/2 resets a stream whose body was not read, and clients lose the answer
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, s.o.MaxBodyBytes))
	}
	a.fail(w, e)
}

// apiOf is the API whose form an error has where no route fits.
func apiOf(path string) api {
	switch {
	case strings.HasPrefix(path, "/v1/rerank"), strings.HasPrefix(path, "/v2/"):
		return cohere
	case strings.HasPrefix(path, "/v1/"), path == "/pooling", path == "/embeddings":
		return openAI
	}
	return tei
}

// unknown answers requests for paths that are none of the server's.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, apiOf(r.URL.Path), &Error{
		Status: http.StatusNotFound, Kind: notFound, Message: "there is no such path here; GET /openapi.json and rag-retrieval serve --help tell those that are",
	})
}

// wrongMethod answers requests for a path with none of its methods.
func (s *Server) wrongMethod(path string, allowed []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recordOf(r.Context()).route = path
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.fail(w, r, apiOf(r.URL.Path), &Error{
			Status: http.StatusMethodNotAllowed, Kind: validation, Message: "the method is not that of this path, want " + strings.Join(allowed, " or "),
		})
	})
}

// otherOrigin refuses what the page of another web site asks by its reader's browser, for which a server on 127.0.0.1 is in reach.
func (s *Server) otherOrigin(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, http.StatusForbidden, forbidden, "the request comes from a page of another web site (the headers Sec-Fetch-Site and Origin say so)")
}

// readBody reads a request's body.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkForm(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > s.o.MaxBodyBytes { // told before it is sent: clients that ask with Expect: 100-continue send nothing
		return nil, &http.MaxBytesError{Limit: s.o.MaxBodyBytes}
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBodyBytes))
	var long *http.MaxBytesError
	var broken net.Error
	switch {
	case err == nil, errors.As(err, &long), tooSlow(err):
		return b, err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &broken):
		return nil, &Error{Status: statusGone, Kind: timeout, Message: "the client went before its body had come"}
	}
	return nil, invalid("the body cannot be read: %v", err)
}

// checkForm refuses bodies that are surely not JSON. The type that curl -d and some clients send without being told is taken for JSON.
func checkForm(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return errorf(http.StatusUnsupportedMediaType, validation, "the body has the Content-Encoding %q, want none", encoding)
	}
	sent := h.Get("Content-Type")
	if sent == "" {
		return nil
	}
	t, _, err := mime.ParseMediaType(sent)
	if err == nil && (slices.Contains([]string{"application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}, t) || strings.HasSuffix(t, "+json")) {
		return nil
	}
	return errorf(http.StatusUnsupportedMediaType, validation, "the body has the Content-Type %q, want application/json", sent)
}

// writeJSON writes a response.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	b, err := encode(body)
	if err == nil {
		write(w, status, b)
	}
	return err
}

// encode makes the JSON of a response. A value that JSON does not have, such as a score that is no number, is an error.
func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	var unsupported *json.UnsupportedValueError
	if errors.As(err, &unsupported) {
		return nil, &Error{Status: http.StatusInternalServerError, Kind: backend, Message: fmt.Sprintf("the model's result has a number that is not finite (%s)", unsupported.Str)}
	}
	return b.Bytes(), err
}

// write writes a response of JSON. It fails only where the client has gone.
func write(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// discard is the log of a server that has none.
var discard = slog.New(slog.DiscardHandler)
