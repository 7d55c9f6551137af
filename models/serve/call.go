package serve

import (
	"bytes"
	"context"
	"net/http"

	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/scoring"
)

// call is one request: its body, the model that answers it, and what the response's headers, the log and the metrics say of it.
type call struct {
	*http.Request
	server *Server
	body   []byte  // as it was sent
	record *record // of the log and the metrics
	trace  *scoring.Trace
	model  *Model // the model that answers; nil before use

	header     http.Header // of the response
	characters int         // of the request's texts
}

func newCall(s *Server, r *http.Request, body []byte) *call {
	c := &call{server: s, body: body, record: recordOf(r.Context())}
	c.trace = &c.record.trace
	c.Request = r.WithContext(scoring.WithTrace(r.Context(), c.trace))
	return c
}

// context is the context of the work that the call asks for. It ends when the client has gone.
func (c *call) context() context.Context { return c.Request.Context() }

// read reads the JSON body.
func (c *call) read(to any) error {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return &Error{Status: http.StatusBadRequest, Kind: empty, Message: "the body is empty, want a JSON object"}
	}
	return decode(c.body, to)
}

// use finds the model that answers, see Server.find. It stays open until release.
func (c *call) use(name string, kinds ...modelcard.Kind) (m *Model, err error) {
	c.release()
	if c.model, err = c.server.acquire(name, kinds...); err == nil {
		c.record.model = c.model.Name
	}
	return c.model, err
}

// release lets go of the model.
func (c *call) release() {
	if c.model != nil {
		c.model.users.Done()
		c.model = nil
	}
}
