package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A server whose environment names a collector sends it the spans of its requests, at the end too.
func TestServeTraces(t *testing.T) {
	var mu sync.Mutex
	names := map[string]int{}
	service := ""
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var x otlp.TracesData
		if err := proto.Unmarshal(b, &x); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range x.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, s := range rs.ScopeSpans[0].Spans {
				names[s.Name]++
			}
		}
	}))
	defer collector.Close()
	s := startServing(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_SERVICE_NAME=mine"}, "--model", "embed="+tiny)
	for range 3 {
		if status, body, err := s.embed(http.DefaultClient, ""); status != 200 || err != nil {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	if rest, err := s.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
	mu.Lock()
	defer mu.Unlock()
	if names["POST /v1/embeddings"] != 3 || names["queue"] != 3 || names["inference"] != 3 || service != "mine" {
		t.Errorf("%v of %q", names, service)
	}
	callEnv(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=nowhere"}, "", "serve", "--model", "a="+tiny).fails(t, exitUsage, "OTEL_EXPORTER_OTLP_ENDPOINT is not the address of a collector")
}
