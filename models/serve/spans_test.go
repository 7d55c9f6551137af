package serve

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
	traceparent = "00-" + clientTrace + "-" + clientSpan + "-01"
)

// A request's span is below the client's, and has the waits and runs of the model below it.
func TestSpans(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	p := trace.NewTracerProvider(trace.WithSyncer(spans))
	_, h, l := local(t, Options{Tracer: p.Tracer("test")}, "embed")
	if w := ask(h, "POST", "/v1/embeddings", `{"input": ["a", "b"]}`, "Traceparent", traceparent); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	ask(h, "GET", "/health", "")
	got := map[string]tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		got[s.Name] = s
	}
	request, queue, inference := got["POST /v1/embeddings"], got["queue"], got["inference"]
	if len(got) != 3 || request.SpanContext.TraceID().String() != clientTrace || request.Parent.SpanID().String() != clientSpan {
		t.Fatalf("%v", got)
	}
	for _, child := range []tracetest.SpanStub{queue, inference} {
		if child.Parent.SpanID() != request.SpanContext.SpanID() || child.StartTime.Before(request.StartTime) || child.EndTime.After(request.EndTime) {
			t.Errorf("%+v", child)
		}
	}
	if !queue.EndTime.Equal(inference.StartTime) {
		t.Errorf("the wait ends %v, and the run begins %v", queue.EndTime, inference.StartTime)
	}
	has := map[string]any{}
	for _, a := range request.Attributes {
		has[string(a.Key)] = a.Value.AsInterface()
	}
	if has["http.route"] != "/v1/embeddings" || has["http.response.status_code"] != int64(200) || has["model"] != "embed" || has["texts"] != int64(2) {
		t.Errorf("%v", has)
	}
	if line := l.lines(t)[0]; line["trace_id"] != clientTrace || line["span_id"] != request.SpanContext.SpanID().String() {
		t.Errorf("%v", line)
	}
}

// Requests without a key make no spans, and methods that clients make up no names.
func TestSpansOfStrangers(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	p := trace.NewTracerProvider(trace.WithSyncer(spans))
	_, h, l := local(t, Options{Tracer: p.Tracer("test"), Keys: NewKeys("geheim")}, "embed")
	ask(h, "POST", "/embed", `{"inputs": "a"}`, "Traceparent", traceparent)
	if got := spans.GetSpans(); len(got) != 0 || l.lines(t)[0]["trace_id"] != clientTrace {
		t.Errorf("%v %s", got, l)
	}
	ask(h, "MADEUP", "/embed", "", "Authorization", "Bearer geheim")
	if got := spans.GetSpans(); len(got) != 1 || got[0].Name != "_OTHER /embed" {
		t.Errorf("%v", got)
	}
}

// Without a tracer the log has the client's trace.
func TestTraceparentInLog(t *testing.T) {
	_, h, l := local(t, Options{}, "embed")
	ask(h, "POST", "/embed", `{"inputs": "a"}`, "Traceparent", traceparent)
	ask(h, "POST", "/embed", `{"inputs": "a"}`, "Traceparent", "00-zz")
	lines := l.lines(t)
	if lines[0]["trace_id"] != clientTrace || lines[0]["span_id"] != clientSpan || lines[1]["trace_id"] != nil {
		t.Errorf("%v", lines)
	}
}
