package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

type description struct {
	file   *openapi3.T
	router routers.Router
}

// describe reads the OpenAPI file as clients get it.
var describe = sync.OnceValues(func() (description, error) {
	b, err := openAPIJSON()
	if err != nil {
		return description{}, err
	}
	file, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		return description{}, err
	}
	router, err := legacy.NewRouter(file) // validates the file
	return description{file, router}, err
})

// checked is a handler whose requests and responses must be as the OpenAPI file says: a request that is answered with 200 must be one
// that the file allows, and every response must have its form.
func checked(t testing.TB, h http.Handler) http.Handler {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w, body := &tee{ResponseWriter: rw, status: http.StatusOK}, &bytes.Buffer{}
		asked := r.Clone(context.WithoutCancel(r.Context()))
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, body), r.Body}
		h.ServeHTTP(w, r)
		asked.Body = io.NopCloser(body)
		if err := d.check(asked, w); err != nil {
			t.Errorf("%s %s %.200s\nstatus %d: %.300s\nis not as openapi.yaml has it: %v", r.Method, r.URL.Path, body, w.status, w.body.Bytes(), err)
		}
	})
}

// check compares a request and its response with the file.
func (d description) check(r *http.Request, w *tee) error {
	route, params, err := d.router.FindRoute(r)
	if err != nil { // the server does not know it either
		if w.status == http.StatusNotFound || w.status == http.StatusMethodNotAllowed || w.status == http.StatusUnauthorized || r.Method == http.MethodHead {
			return nil
		}
		return err
	}
	r.Header.Set("Content-Type", "application/json") // clients may leave it out
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	var wrong *openapi3filter.RequestError
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil && (w.status < 300 || !errors.As(err, &wrong)) {
		return err
	}
	options.ExcludeResponseBody = !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && w.body.Len() > 0 // a file of the page
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: w.status, Header: w.Header(), Options: options}
	return openapi3filter.ValidateResponse(r.Context(), out.SetBodyBytes(w.body.Bytes()))
}

// tee is a response that is kept too.
type tee struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *tee) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *tee) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *tee) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// Every route is in the file, and every one of the file is a route.
func TestOpenAPIRoutes(t *testing.T) {
	s, h, _ := local(t, Options{}, "embed")
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	var routes, described []string
	for _, r := range s.routes() {
		path := strings.NewReplacer("{$}", "", "...", "").Replace(r.path)
		routes = append(routes, r.method+" "+path)
	}
	for path, item := range d.file.Paths.Map() {
		for method := range item.Operations() {
			if described = append(described, method+" "+path); slices.Contains(routes, method+" "+path) {
				continue
			}
			if w := ask(h, method, strings.ReplaceAll(path, "{file}", "style.css"), ""); method != http.MethodGet || w.Code != http.StatusOK {
				t.Errorf("%s %s is in openapi.yaml and no route: %d", method, path, w.Code)
			}
		}
	}
	for _, r := range routes {
		if !slices.Contains(described, r) {
			t.Errorf("%s is not in openapi.yaml", r)
		}
	}
}

// GET /openapi.json is the file, and readable without a key.
func TestOpenAPIFile(t *testing.T) {
	_, h, _ := local(t, Options{Keys: NewKeys("a-key-of-16-chars")}, "embed")
	w := ask(h, "GET", "/openapi.json", "")
	file, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v: %v", w.Code, w.Header(), err)
	}
	if err := file.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// The wrapper around the handlers of all tests finds what is not as the file says.
func TestChecked(t *testing.T) {
	d, err := describe()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		path, body, response string
		status               int
		words                string
	}{
		{"/embed", `{"inputs": "a"}`, `[[1]]`, 200, ""},
		{"/embed", `{"inputs": 5}`, `[[1]]`, 200, "inputs"},
		{"/embed", `{"inputs": "a"}`, `[1]`, 200, "response body doesn't match schema"},
		{"/embed", `{"inputs": 5}`, `{"error": "a"}`, 422, "error_type"},
		{"/embed", `{"inputs": 5}`, `{"error": "a", "error_type": "b"}`, 422, ""},
		{"/absent", `{}`, `{}`, 200, "no matching operation"},
	} {
		r := httptest.NewRequest("POST", x.path, strings.NewReader(x.body))
		w := &tee{ResponseWriter: httptest.NewRecorder(), status: x.status}
		w.Header().Set("Content-Type", "application/json")
		w.body.WriteString(x.response)
		if err := d.check(r, w); (err == nil) != (x.words == "") || err != nil && !strings.Contains(err.Error(), x.words) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}
