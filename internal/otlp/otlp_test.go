package otlp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestExport(t *testing.T) {
	clearVariables(t)
	var got otlp.TracesData
	var path, key string
	answer := http.StatusOK
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		path, key = r.URL.Path, r.Header.Get("X-Key")
		if err := proto.Unmarshal(b, &got); err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%v %v", err, r.Header)
		}
		w.WriteHeader(answer)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL+"/")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, other=c")
	e, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(e), sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "s"))))
	ctx, parent := p.Tracer("scope").Start(t.Context(), "parent", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.Int("n", 7), attribute.Bool("b", true), attribute.Float64("f", .5), attribute.StringSlice("l", []string{"x"})))
	_, child := p.Tracer("scope").Start(ctx, "child")
	child.SetStatus(codes.Error, "bad")
	child.End()
	parent.End()
	if err := p.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if path != "/v1/traces" || key != "a b" || len(got.ResourceSpans) != 1 || got.ResourceSpans[0].Resource.Attributes[0].Value.GetStringValue() != "s" {
		t.Fatalf("%s %s %v", path, key, &got)
	}
	scope := got.ResourceSpans[0].ScopeSpans[0]
	c, m := scope.Spans[0], scope.Spans[1]
	if scope.Scope.Name != "scope" || c.Name != "child" || m.Name != "parent" || string(c.ParentSpanId) != string(m.SpanId) || string(c.TraceId) != string(m.TraceId) ||
		c.Status.Message != "bad" || m.Kind != otlp.Span_SPAN_KIND_SERVER || m.EndTimeUnixNano < m.StartTimeUnixNano || m.StartTimeUnixNano == 0 ||
		m.Attributes[0].Value.GetIntValue() != 7 || !m.Attributes[1].Value.GetBoolValue() || m.Attributes[2].Value.GetDoubleValue() != .5 || m.Attributes[3].Value.GetStringValue() != `["x"]` {
		t.Errorf("%v\n%v", c, m)
	}
	answer = http.StatusServiceUnavailable
	_, last := p.Tracer("scope").Start(t.Context(), "last")
	last.End()
	if err := p.ForceFlush(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// clearVariables takes OpenTelemetry's variables out of the environment until the test ends.
func clearVariables(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
}

// A redirect would send the headers, which are often secret, elsewhere. No error shows a password.
func TestRedirect(t *testing.T) {
	clearVariables(t)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			t.Error(r.URL.Path)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", strings.Replace(collector.URL, "://", "://user:secret@", 1))
	e, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(e))
	_, s := p.Tracer("scope").Start(t.Context(), "s")
	s.End()
	if err := p.ForceFlush(t.Context()); err == nil || !strings.Contains(err.Error(), "307") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	clearVariables(t)
	if e, err := FromEnvironment(); e != nil || err != nil {
		t.Errorf("nothing is asked for: %v %v", e, err)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/base")
	if e, err := FromEnvironment(); err != nil || e.url != "http://a:4318/base/v1/traces" {
		t.Errorf("%+v %v", e, err)
	}
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s", "OTEL_EXPORTER_OTLP_HEADERS": "secret",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "c.pem",
		"OTEL_EXPORTER_OTLP_CLIENT_KEY": "k.pem", "OTEL_TRACES_EXPORTER": "zipkin",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		})
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://b/c")
	if e, err := FromEnvironment(); err != nil || e.url != "https://b/c" {
		t.Errorf("%+v %v", e, err)
	}
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	if e, err := FromEnvironment(); e != nil || err != nil {
		t.Errorf("%v %v", e, err)
	}
}
