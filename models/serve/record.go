package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"rag-retrieval-go/models/scoring"
)

// record is what the log and the metrics say of one request. It never holds texts or keys.
type record struct {
	id     string
	remote string // the client's address
	method string
	path   string        // as the client wrote it
	route  string        // of the table of routes; empty where no route fits
	model  string        // the name of the model that answers; empty before one was found
	trace  scoring.Trace // what the request's batches waited, ran and held
	start  time.Time
	read   int64 // bytes of the body
	span   trace.Span
	err    *Error // what was answered in place of a result
}

type recordKey struct{}

// recordOf is the record of a request. A request that did not come through Handler gets a new one.
func recordOf(ctx context.Context) *record {
	if x, ok := ctx.Value(recordKey{}).(*record); ok {
		return x
	}
	return &record{start: time.Now(), span: noop.Span{}}
}

func newRecord(r *http.Request) *record {
	return &record{id: requestID(r.Header.Get(headerRequestID)), remote: r.RemoteAddr, method: r.Method, path: r.URL.Path, start: time.Now()}
}

const headerRequestID = "X-Request-Id"

// requestID is the client's id of a request if it is short and plain, else a new one: logs hold it, and others' tools read them.
func requestID(sent string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+=@"
	if sent != "" && len(sent) <= 128 && strings.Trim(sent, plain) == "" {
		return sent
	}
	return rand.Text()
}

// log writes the line of a request: successes as info, mistakes of clients as warnings, failures of the server as errors.
func (x *record) log(l *slog.Logger, w *response) {
	totals := x.trace.Totals()
	attrs := []slog.Attr{
		slog.String("id", x.id), slog.String("remote", x.remote), slog.String("method", x.method), slog.String("route", x.shownRoute()),
		slog.Int("status", w.status), slog.Float64("total_ms", ms(time.Since(x.start))), slog.Int64("bytes_in", x.read), slog.Int64("bytes_out", w.written),
	}
	if c := x.span.SpanContext(); c.IsValid() {
		attrs = append(attrs, slog.String("trace_id", c.TraceID().String()), slog.String("span_id", c.SpanID().String()))
	}
	if x.model != "" {
		attrs = append(attrs, slog.String("model", x.model), slog.Int("texts", totals.Rows), slog.Int("tokens", totals.Tokens),
			slog.Float64("queue_ms", ms(totals.Waited)), slog.Float64("inference_ms", ms(totals.Ran)))
	}
	failed := 0 // TEI's API tells failures of the model by 424
	if x.err != nil {
		failed = x.err.Status
		attrs = append(attrs, slog.String("error", x.err.logged()))
	}
	l.LogAttrs(context.Background(), x.level(max(w.status, failed)), "request", attrs...)
}

// shownRoute is the route, or where none fits the path as far as a line of a log should show it.
func (x *record) shownRoute() string {
	if x.route != "" || len(x.path) <= 100 {
		return cmp.Or(x.route, x.path)
	}
	return x.path[:100] + "…"
}

func (x *record) level(status int) slog.Level {
	switch {
	case quietRoutes[x.route] && (status < 400 || status == http.StatusServiceUnavailable): // /ready of a server that ends
		return slog.LevelDebug
	case status >= 500:
		return slog.LevelError
	case status == statusGone:
		return slog.LevelInfo
	case status >= 400:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// quietRoutes are asked every few seconds by what watches the server.
var quietRoutes = map[string]bool{"/health": true, "/ready": true, "/metrics": true}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// response is the response as the server writes it. It counts, and gives up on clients that do not read.
type response struct {
	http.ResponseWriter
	status  int // 0 before the header is written
	written int64
	until   time.Time // when all of it must be written; zero before the first byte
}

// A client must read a response within writePatience and a second for each writeRate bytes: one that does not would hold memory for ever.
const (
	writePatience = 30 * time.Second
	writeRate     = 1_000_000
)

// Unwrap lets http.ResponseController find the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	_ = w.giveTime(0) // net/http keeps the deadline of the connection's last response
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if err := w.giveTime(len(b)); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// giveTime sets until when the response must be written, of which n bytes more come.
func (w *response) giveTime(n int) error {
	if w.until.IsZero() {
		w.until = time.Now().Add(writePatience)
	}
	w.until = w.until.Add(time.Duration(n) * time.Second / writeRate)
	if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.until); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// countedBody counts the bytes that are read from a body.
type countedBody struct {
	io.ReadCloser
	record *record
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.record.read += int64(n)
	return n, err
}

// tooSlow tells whether reading a body failed because it did not come in time.
func tooSlow(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
