package serve

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/ortrain/runtime"
)

// kind is what an error is about.
type kind string

// TEI's names of kinds.
const (
	validation kind = "Validation"
	empty      kind = "Empty"
	notFound   kind = "NotFound"
	tokenizing kind = "Tokenizer"
	overloaded kind = "Overloaded"
	backend    kind = "Backend"
	timeout    kind = "Timeout"
	unhealthy  kind = "Unhealthy"

	unauthorized kind = "Unauthorized"
	forbidden    kind = "Forbidden"
)

// Error is an error with the status of the response.
type Error struct {
	Status  int
	Kind    kind
	Message string
	Param   string // the field of the body that it is about, if it is one
	Code    string // OpenAI's name of it; empty: it has none
	// Logged is what the log says where the message quotes the request; empty: the message.
	Logged string
}

func (e *Error) Error() string { return e.Message }

func (e *Error) logged() string { return cmp.Or(e.Logged, e.Message) }

// invalid is the error of a body that is not as it should be.
func invalid(format string, args ...any) error {
	return errorf(http.StatusBadRequest, validation, format, args...)
}

// errorf is an error whose arguments may quote the request: the log has an ellipsis in place of texts.
func errorf(status int, k kind, format string, args ...any) error {
	e := &Error{Status: status, Kind: k, Message: fmt.Sprintf(format, args...)}
	hidden := slices.Clone(args)
	for i, a := range args {
		switch a := a.(type) {
		case *Error:
			hidden[i] = a.logged()
		case string, []byte, error, fmt.Stringer:
			hidden[i] = "…"
		}
	}
	e.Logged = fmt.Sprintf(format, hidden...)
	return e
}

// Codes of errors.
const (
	invalidJSON  = "invalid_json"
	tooMany      = "array_above_max_length"
	unknownModel = "model_not_found"
	tooLong      = "context_length_exceeded"
)

// about says which field of the body an error is about.
func about(field string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Param == "" {
		e.Param = field
	}
	return err
}

// fieldName is an argument of errorf that is never the client's, the name of a field for example: the log shows it.
type fieldName string

// statusGone is nginx's status for a client that has gone. Nobody reads it.
const statusGone = 499

// explain makes an Error of any error.
func explain(r *http.Request, err error) *Error {
	var e *Error
	var long *http.MaxBytesError
	var text *retriever.TextError
	var length *retriever.LengthError
	var option *retriever.OptionError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &long):
		return &Error{Status: http.StatusRequestEntityTooLarge, Kind: validation, Message: fmt.Sprintf("the body is longer than %d bytes", long.Limit)}
	case errors.As(err, &length):
		message := "a text is too long: " + length.Error()
		if errors.As(err, &text) {
			message = fmt.Sprintf("text %d is too long: %v", text.Index+1, length)
		}
		return &Error{Status: http.StatusUnprocessableEntity, Kind: tokenizing, Code: tooLong, Message: message} // TEI's kind of this status
	case errors.As(err, &text):
		return &Error{Status: http.StatusUnprocessableEntity, Kind: tokenizing, Message: err.Error(), Logged: "a text cannot be read"}
	case errors.As(err, &option):
		return &Error{Status: http.StatusBadRequest, Kind: validation, Param: "dimensions", Message: option.Named(func(name string) string {
			if name == "dimension" {
				return "dimensions"
			}
			return name
		})}
	case tooSlow(err):
		return &Error{Status: http.StatusRequestTimeout, Kind: timeout, Message: "the body did not come in time"}
	case r.Context().Err() != nil:
		return &Error{Status: statusGone, Kind: timeout, Message: "the client has gone"}
	case errors.Is(err, runtime.ErrOutOfMemory):
		return &Error{Status: http.StatusInsufficientStorage, Kind: backend, Message: err.Error()}
	}
	return &Error{ // the reason may have paths of the server
		Status: http.StatusInternalServerError, Kind: backend, Logged: err.Error(),
		Message: "the model did not answer; the server's log has the reason under the id " + recordOf(r.Context()).id,
	}
}

// api is how a family of routes writes errors.
type api struct {
	// body is the body of an error's response.
	body func(e *Error) any
	// status is the API's own status of an error.
	status func(e *Error) int
}

func (a api) fail(w http.ResponseWriter, e *Error) { _ = writeJSON(w, a.status(e), a.body(e)) }

// badRequest is the status in APIs that tell each mistake in a body by 400.
func badRequest(e *Error) int {
	if e.Code == tooMany || e.Status == http.StatusUnprocessableEntity {
		return http.StatusBadRequest
	}
	return e.Status
}

// teiStatus tells fields that are wrong by 422, and what the model made wrong by 424.
func teiStatus(e *Error) int {
	switch {
	case e.Status == http.StatusBadRequest && e.Kind == validation && e.Code != invalidJSON:
		return http.StatusUnprocessableEntity
	case e.Status == http.StatusInternalServerError && e.Kind == backend:
		return http.StatusFailedDependency
	}
	return e.Status
}

// openAI writes errors as OpenAI's API does.
var openAI = api{status: badRequest, body: func(e *Error) any {
	t, code := "invalid_request_error", e.Code
	switch {
	case e.Status >= 500:
		t = "server_error"
	case e.Status == http.StatusTooManyRequests:
		t, code = "requests", "rate_limit_exceeded"
	case e.Status == http.StatusUnauthorized:
		code = "invalid_api_key"
	}
	return map[string]any{"error": map[string]any{"message": e.Message, "type": t, "param": orNull(e.Param), "code": orNull(code)}}
}}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// cohere writes errors as Cohere's API does; Jina's clients read the field detail.
var cohere = api{status: badRequest, body: func(e *Error) any { return map[string]any{"message": e.Message, "detail": e.Message} }}

// pageAPI writes the errors of the page's own routes.
var pageAPI = api{status: badRequest, body: tei.body}

// tei writes errors as TEI does.
var tei = api{status: teiStatus, body: func(e *Error) any { return map[string]any{"error": e.Message, "error_type": e.Kind} }}
