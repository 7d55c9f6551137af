package otlp

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// message is the body of a request: TracesData has the same bytes as the service's own message, which is defined beside the gRPC
// service. All spans are of one process, and so of one resource.
func message(spans []trace.ReadOnlySpan) *otlp.TracesData {
	scopes := map[string]*otlp.ScopeSpans{}
	r := spans[0].Resource()
	out := &otlp.ResourceSpans{Resource: &resource.Resource{Attributes: attributes(r.Attributes())}, SchemaUrl: r.SchemaURL()}
	for _, s := range spans {
		scope := s.InstrumentationScope()
		x := scopes[scope.Name]
		if x == nil {
			x = &otlp.ScopeSpans{Scope: &common.InstrumentationScope{Name: scope.Name, Version: scope.Version}, SchemaUrl: scope.SchemaURL}
			scopes[scope.Name], out.ScopeSpans = x, append(out.ScopeSpans, x)
		}
		x.Spans = append(x.Spans, span(s))
	}
	return &otlp.TracesData{ResourceSpans: []*otlp.ResourceSpans{out}}
}

func span(s trace.ReadOnlySpan) *otlp.Span {
	c, parent := s.SpanContext(), s.Parent()
	traceID, spanID := c.TraceID(), c.SpanID()
	x := &otlp.Span{
		TraceId: traceID[:], SpanId: spanID[:], TraceState: c.TraceState().String(), Name: s.Name(), Kind: otlp.Span_SpanKind(s.SpanKind()),
		StartTimeUnixNano: uint64(max(0, s.StartTime().UnixNano())), EndTimeUnixNano: uint64(max(0, s.EndTime().UnixNano())),
		Attributes: attributes(s.Attributes()), DroppedAttributesCount: uint32(s.DroppedAttributes()), Flags: uint32(c.TraceFlags()), Status: status(s.Status()),
	}
	if parent.SpanID().IsValid() {
		id := parent.SpanID()
		x.ParentSpanId = id[:]
	}
	return x
}

func status(s trace.Status) *otlp.Status {
	switch s.Code {
	case codes.Error:
		return &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR, Message: s.Description}
	case codes.Ok:
		return &otlp.Status{Code: otlp.Status_STATUS_CODE_OK}
	}
	return &otlp.Status{}
}

func attributes(list []attribute.KeyValue) (out []*common.KeyValue) {
	for _, a := range list {
		out = append(out, &common.KeyValue{Key: string(a.Key), Value: value(a.Value)})
	}
	return out
}

// value has the kinds of values that this program's spans and resources have. Lists are written as text.
func value(v attribute.Value) *common.AnyValue {
	switch v.Type() {
	case attribute.BOOL:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.AsBool()}}
	case attribute.INT64:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v.AsInt64()}}
	case attribute.FLOAT64:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.AsFloat64()}}
	case attribute.STRING:
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v.AsString()}}
	}
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v.String()}}
}
