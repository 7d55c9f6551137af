package serve

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape reads GET /metrics as Prometheus does.
func scrape(t *testing.T, h http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	w := ask(h, "GET", "/metrics", "")
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v", w.Code, err)
	}
	return families
}

// value is the value of the series that has the labels, or the number of its observations; -1 if there is none.
func value(f *dto.MetricFamily, labels ...string) float64 {
	for _, m := range f.GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && has[labels[i]] == labels[i+1]
		}
		if fits {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	s, h, _ := local(t, Options{MaxConcurrent: 7}, "embed", "rerank")
	ask(h, "POST", "/v1/embeddings", `{"input": ["a", "the er b c d"]}`)
	ask(h, "POST", "/v2/rerank", `{"query": "a", "documents": ["b", "c", "the er b c d"]}`)
	ask(h, "POST", "/v2/rerank", `{"query": "a"}`)
	ask(h, "POST", "/v2/rerank", `{"query": "a", "documents": ["b"], "model": "absent"}`)
	s.CountReload("embed", "failure")
	f := scrape(t, h)
	for _, x := range []struct {
		name   string
		want   float64
		labels []string
	}{
		{"rag_retrieval_requests_total", 1, []string{"route", "/v1/embeddings", "model", "embed", "status", "200"}},
		{"rag_retrieval_requests_total", 1, []string{"route", "/v2/rerank", "model", "rerank", "status", "200"}},
		{"rag_retrieval_requests_total", 1, []string{"route", "/v2/rerank", "model", "rerank", "status", "400"}},
		{"rag_retrieval_requests_total", 1, []string{"route", "/v2/rerank", "model", "", "status", "404"}},
		{"rag_retrieval_request_duration_seconds", 1, []string{"route", "/v1/embeddings"}},
		{"rag_retrieval_request_queue_seconds", 1, []string{"route", "/v1/embeddings"}},
		{"rag_retrieval_request_inference_seconds", 1, []string{"route", "/v2/rerank"}},
		{"rag_retrieval_texts_total", 2, []string{"model", "embed"}},
		{"rag_retrieval_texts_total", 3, []string{"model", "rerank"}},
		{"rag_retrieval_requests_in_work", 0, nil},
		{"rag_retrieval_requests_in_work_limit", 7, nil},
		{"rag_retrieval_ready", 1, nil},
		{"rag_retrieval_model_info", 1, []string{"model", "rerank", "kind", "reranker"}},
		{"rag_retrieval_queue_calls", 0, []string{"model", "embed"}},
		{"rag_retrieval_reloads_total", 1, []string{"what", "embed", "result", "failure"}},
		{"te_request_count", 4, nil},
		{"te_request_success", 2, nil},
		{"te_request_failure", 1, []string{"err", "NotFound"}},
		{"te_queue_size", 0, nil},
	} {
		if got := value(f[x.name], x.labels...); got != x.want {
			t.Errorf("%s%v is %v, want %v", x.name, x.labels, got, x.want)
		}
	}
	for _, name := range []string{
		"rag_retrieval_batch_texts", "rag_retrieval_batch_calls", "rag_retrieval_batch_tokens", "rag_retrieval_batch_duration_seconds", "rag_retrieval_tokens_total",
		"rag_retrieval_padding_saved_tokens_total", "te_batch_next_size", "te_batch_next_tokens", "process_resident_memory_bytes", "go_goroutines",
	} {
		if value(f[name]) < 1 {
			t.Errorf("%s is %v", name, f[name])
		}
	}
	b, err := os.ReadFile("../../scripts/serve/README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile("`(rag_retrieval|te|process|go)_[a-z_]+").FindAllString(string(b), -1)
	for _, name := range told {
		if f[name[1:]] == nil && !slices.Contains([]string{"`rag_retrieval_batch_failures_total"}, name) { // there was none
			t.Errorf("the README has %s, which GET /metrics has not", name)
		}
	}
	if len(told) < 20 {
		t.Errorf("the README has %q", told)
	}
	for name, x := range f {
		if x.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
}

// Clients cannot make series: unknown paths, methods and models are one each.
func TestMetricsAreBounded(t *testing.T) {
	_, h, _ := local(t, Options{}, "embed")
	noise := func(i int) {
		ask(h, "POST", fmt.Sprintf("/v1/nothing/%d", i), "")
		ask(h, "GET", fmt.Sprintf("/page/nothing/%d", i), "")
		ask(h, fmt.Sprintf("M%d", i), "/v1/embeddings", "")
		ask(h, "POST", "/v1/embeddings", fmt.Sprintf(`{"input": "a", "model": "m%d"}`, i))
	}
	series := func() (n int) {
		for name, f := range scrape(t, h) {
			if strings.HasPrefix(name, "rag_") || strings.HasPrefix(name, "te_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	noise(0)
	before := series()
	for i := range 50 {
		noise(i)
	}
	if after := series(); after > before+1 { // the first scrape is counted by the second
		t.Errorf("%d series became %d", before, after)
	}
}
