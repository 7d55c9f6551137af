// Package otlp sends OpenTelemetry's spans to a collector by OTLP over HTTP, as OpenTelemetry's variables of the environment say.
//
//	e, err := otlp.FromEnvironment() // nil if no collector is named
//	provider := trace.NewTracerProvider(trace.WithBatcher(e))
//
// OpenTelemetry's own exporter, otlptracehttp, links gRPC into the program also where only HTTP is used: 7 MB more, where this is 0.1.
// This one knows http/protobuf without compression, and does not try again what a collector did not take. Events and links of
// spans are not sent: this program makes none.
package otlp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"
)

// Exporter is a trace.SpanExporter.
type Exporter struct {
	url    string
	shown  string // the address without a password
	header http.Header
	client *http.Client
}

// FromEnvironment returns the exporter that OTEL_EXPORTER_OTLP_ENDPOINT and its like ask for, and nil if they ask for none. The names
// with TRACES_ in them come first, as OpenTelemetry says.
func FromEnvironment() (*Exporter, error) {
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case os.Getenv("OTEL_SDK_DISABLED") == "true", exporter == "none":
		return nil, nil
	case exporter != "" && exporter != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q, want otlp or none", exporter)
	}
	address, name := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	if address == "" {
		if address, name = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"; address == "" {
			return nil, nil
		}
		address = strings.TrimSuffix(address, "/") + "/v1/traces"
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is not the address of a collector, such as http://127.0.0.1:4318", name)
	}
	if p := variable("PROTOCOL"); p != "" && p != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q, want http/protobuf (port 4318 of most collectors)", p)
	}
	if c := variable("COMPRESSION"); c != "" && c != "none" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q, want none", c)
	}
	for _, name := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
		if variable(name) != "" {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_%s is set, and is not supported: the system's certificates are used, and none of the client's own", name)
		}
	}
	patience := 10 * time.Second
	if ms := variable("TIMEOUT"); ms != "" {
		n, err := strconv.Atoi(ms)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q, want milliseconds", ms)
		}
		patience = time.Duration(n) * time.Millisecond
	}
	header, err := headers(variable("HEADERS"))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the headers are for the collector only
	}}
	return &Exporter{url: address, shown: u.Redacted(), header: header, client: client}, nil
}

// variable is the value of a variable of the environment that may be of traces only.
func variable(name string) string {
	if v := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_" + name)
}

// headers reads "name=value,name=value", whose values are escaped as in a URL. Its errors show no value: these are often secrets.
func headers(list string) (http.Header, error) {
	h := http.Header{"Content-Type": {"application/x-protobuf"}}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS is not a list of NAME=VALUE with commas")
		}
		h.Set(strings.TrimSpace(name), value)
	}
	return h, nil
}

// ExportSpans implements trace.SpanExporter.
func (e *Exporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := proto.Marshal(message(spans))
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = e.header
	w, err := e.client.Do(r)
	if err != nil {
		return fmt.Errorf("%d spans were not sent: %w", len(spans), err)
	}
	defer w.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(w.Body, 1<<20)); err != nil {
		return err
	}
	if w.StatusCode/100 != 2 {
		return fmt.Errorf("%d spans were not taken: the collector at %s answers %s", len(spans), e.shown, w.Status)
	}
	return nil
}

// Shutdown implements trace.SpanExporter.
func (e *Exporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}
