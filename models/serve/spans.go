package serve

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"rag-retrieval-go/models/scoring"
)

// noSpans is the tracer of a server that has none. Its spans have the ids of the client's.
var noSpans = noop.NewTracerProvider().Tracer("")

// startSpan starts the span of a request, below the client's if it sent the header traceparent. Probes and requests without a key have none.
func (s *Server) startSpan(r *http.Request, x *record) context.Context {
	ctx, t := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header)), s.o.Tracer
	if quietRoutes[r.URL.Path] || t != noSpans && s.lacksKey(r) {
		t = noSpans
	}
	ctx, x.span = t.Start(ctx, spanMethod(r.Method), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.start))
	if x.span.IsRecording() {
		x.trace.Each = func(run scoring.TraceTotals) { s.runSpans(ctx, run) }
	}
	return ctx
}

// spanMethod is OpenTelemetry's name of a method: clients may make up others.
func spanMethod(method string) string {
	switch method {
	case "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE":
		return method
	}
	return "_OTHER"
}

// runSpans makes the spans of a run of the model that has just ended: the wait for it, and the run itself.
func (s *Server) runSpans(ctx context.Context, run scoring.TraceTotals) {
	end := time.Now()
	start := end.Add(-run.Ran)
	_, queue := s.o.Tracer.Start(ctx, "queue", trace.WithTimestamp(start.Add(-run.Waited)))
	queue.End(trace.WithTimestamp(start))
	_, inference := s.o.Tracer.Start(ctx, "inference", trace.WithTimestamp(start), trace.WithAttributes(attribute.Int("texts", run.Rows), attribute.Int("tokens", run.Tokens)))
	inference.End(trace.WithTimestamp(end))
}

// endSpan ends the span of a request, with OpenTelemetry's names of what it knows.
func (x *record) endSpan(status int) {
	if !x.span.IsRecording() {
		return
	}
	x.span.SetAttributes(attribute.String("http.request.method", spanMethod(x.method)), attribute.Int("http.response.status_code", status), attribute.String("request.id", x.id))
	if x.route != "" {
		x.span.SetName(spanMethod(x.method) + " " + x.route)
		x.span.SetAttributes(attribute.String("http.route", x.route))
	}
	if x.model != "" {
		totals := x.trace.Totals()
		x.span.SetAttributes(attribute.String("model", x.model), attribute.Int("texts", totals.Rows), attribute.Int("tokens", totals.Tokens))
	}
	if status >= 500 && x.err != nil {
		x.span.SetStatus(codes.Error, x.err.logged())
	}
	x.span.End()
}
