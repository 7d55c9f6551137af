package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// kind is what an error is about.
type kind string

// TEI's names of kinds.
const (
	validation kind = "Validation"
	notFound   kind = "NotFound"
	tokenizing kind = "Tokenizer"
	overloaded kind = "Overloaded"
	backend    kind = "Backend"
	timeout    kind = "Timeout"
)

// Error is an error with the status of the response.
type Error struct {
	Status  int
	Kind    kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// invalid is the error of a body that is not as it should be.
func invalid(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Kind: validation, Message: fmt.Sprintf(format, args...)}
}

// statusGone is nginx's status for a client that has gone. Nobody reads it.
const statusGone = 499

// explain makes an Error of any error.
func explain(r *http.Request, err error) *Error {
	var e *Error
	var long *http.MaxBytesError
	var text *retriever.TextError
	var option *retriever.OptionError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &long):
		return &Error{http.StatusRequestEntityTooLarge, validation, fmt.Sprintf("the body is longer than %d bytes", long.Limit)}
	case errors.As(err, &text):
		return &Error{http.StatusUnprocessableEntity, tokenizing, err.Error()}
	case errors.As(err, &option):
		return &Error{http.StatusBadRequest, validation, option.Named(func(name string) string {
			if name == "dimension" {
				return "dimensions"
			}
			return name
		})}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{http.StatusGatewayTimeout, timeout, "the request took too long"}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return &Error{statusGone, timeout, "the client has gone"}
	case errors.Is(err, runtime.ErrOutOfMemory):
		return &Error{http.StatusInsufficientStorage, backend, err.Error()}
	}
	return &Error{http.StatusInternalServerError, backend, err.Error()}
}

// api is how a family of routes writes errors.
type api struct {
	// body is the body of an error's response.
	body func(e *Error) any
}

func (a api) fail(w http.ResponseWriter, e *Error) { writeJSON(w, e.Status, a.body(e)) }

// openAI writes errors as OpenAI's API does.
var openAI = api{func(e *Error) any {
	types := map[int]string{http.StatusTooManyRequests: "rate_limit_exceeded", http.StatusUnauthorized: "invalid_api_key"}
	t, ok := types[e.Status]
	if !ok {
		if t = "invalid_request_error"; e.Status >= 500 {
			t = "server_error"
		}
	}
	return map[string]any{"error": map[string]any{"message": e.Message, "type": t, "param": nil, "code": nil}}
}}

// cohere writes errors as Cohere's API does; Jina's clients read the field detail.
var cohere = api{func(e *Error) any { return map[string]any{"message": e.Message, "detail": e.Message} }}

// tei writes errors as TEI does.
var tei = api{func(e *Error) any { return map[string]any{"error": e.Message, "error_type": e.Kind} }}
