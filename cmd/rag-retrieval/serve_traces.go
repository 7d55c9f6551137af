package main

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"rag-retrieval-go/internal/otlp"
)

// traces makes the tracer that OpenTelemetry's variables of the environment ask for, and nil if they name no collector. stop sends what
// is left.
func traces(log *slog.Logger) (tracer trace.Tracer, stop func(), err error) {
	e, err := otlp.FromEnvironment()
	if err != nil {
		return nil, nil, usagef("%v", err)
	}
	if e == nil {
		return nil, func() {}, nil
	}
	r, err := resource.New(context.Background(), resource.WithAttributes(attribute.String("service.name", "rag-retrieval")), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, usagef("OTEL_RESOURCE_ATTRIBUTES: %v", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", oneLine(err.Error())) }))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(e), sdktrace.WithResource(r))
	return p.Tracer("rag-retrieval/serve"), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			log.Warn("the last traces were not sent", "error", oneLine(err.Error()))
		}
	}, nil
}
