package serve

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rag-retrieval-go/models/scoring"
)

// metrics are what GET /metrics tells. Their labels are routes of the table, names of served models and statuses, so that no client
// can make more series: unknown paths are the route "other", and requests without a model have an empty name.
type metrics struct {
	registry *prometheus.Registry

	requests                   *prometheus.CounterVec   // by route, model and status
	duration, queue, inference *prometheus.HistogramVec // of requests in seconds, by route and model
	texts, tokens              *prometheus.CounterVec   // of requests, by model

	batch   batchMetrics
	reloads *prometheus.CounterVec // by what was read again, and result
	tei     *teiMetrics
}

// batchMetrics describe the runs of models, by model.
type batchMetrics struct {
	texts, calls, tokens, seconds *prometheus.HistogramVec
	padding, failures             *prometheus.CounterVec
}

// requestSeconds are the bounds of the histograms of times: from a short text on an idle server to the default of --request-timeout.
var requestSeconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rag_retrieval_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rag_retrieval_" + name, Help: help, Buckets: buckets}, labels)
	}
	powers := func(n int) []float64 { return prometheus.ExponentialBuckets(1, 2, n) }
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		requests:  counter("requests_total", "Requests that were answered. Status 499: the client had gone.", "route", "model", "status"),
		duration:  histogram("request_duration_seconds", "From a request's first byte to its response.", requestSeconds, "route", "model"),
		queue:     histogram("request_queue_seconds", "How long a request's texts waited for the model.", requestSeconds, "route", "model"),
		inference: histogram("request_inference_seconds", "How long the batches ran that a request's texts were in.", requestSeconds, "route", "model"),
		texts:     counter("texts_total", "Texts, or pairs of query and document, that models read.", "model"),
		tokens:    counter("tokens_total", "Tokens that models read, without padding.", "model"),
		reloads:   counter("reloads_total", "What SIGHUP read again: keys, certificate, or a model by its name. Result: success, failure, or unchanged.", "what", "result"),
		batch: batchMetrics{
			texts:    histogram("batch_texts", "Texts, or pairs, of a batch.", powers(10), "model"),
			calls:    histogram("batch_calls", "Requests that shared a batch.", powers(10), "model"),
			tokens:   histogram("batch_tokens", "Tokens of a batch, without padding.", powers(16), "model"),
			seconds:  histogram("batch_duration_seconds", "How long a batch ran.", requestSeconds, "model"),
			padding:  counter("padding_saved_tokens_total", "Tokens of padding that batches would have had if every text were as long as the longest.", "model"),
			failures: counter("batch_failures_total", "Batches that failed.", "model"),
		},
		tei: newTEIMetrics(s),
	}
	b := m.batch
	m.registry.MustRegister(
		m.requests, m.duration, m.queue, m.inference, m.texts, m.tokens, m.reloads, b.texts, b.calls, b.tokens, b.seconds, b.padding, b.failures,
		&loadCollector{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(m.tei.collectors()...)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// request counts a request that has been answered.
func (m *metrics) request(x *record, status int) {
	route := x.route
	if route == "" {
		route = "other"
	}
	m.requests.WithLabelValues(route, x.model, strconv.Itoa(status)).Inc()
	if quietRoutes[route] || route == "other" {
		return
	}
	totals, took := x.trace.Totals(), time.Since(x.start)
	m.tei.request(x, totals, took)
	m.duration.WithLabelValues(route, x.model).Observe(took.Seconds())
	if x.model != "" && totals.Rows > 0 {
		m.queue.WithLabelValues(route, x.model).Observe(totals.Waited.Seconds())
		m.inference.WithLabelValues(route, x.model).Observe(totals.Ran.Seconds())
		m.texts.WithLabelValues(x.model).Add(float64(totals.Rows))
		m.tokens.WithLabelValues(x.model).Add(float64(totals.Tokens))
	}
}

// run counts a batch of a model.
func (m *metrics) run(model string, r scoring.QueueRun) {
	m.tei.run(r)
	b := m.batch
	b.texts.WithLabelValues(model).Observe(float64(r.Rows))
	b.calls.WithLabelValues(model).Observe(float64(r.Calls))
	b.tokens.WithLabelValues(model).Observe(float64(r.Tokens))
	b.seconds.WithLabelValues(model).Observe(r.Seconds)
	b.padding.WithLabelValues(model).Add(float64(max(0, r.PaddedTokens-r.Tokens)))
	if r.Err != nil {
		b.failures.WithLabelValues(model).Inc()
	}
}

// CountReload counts that something was read again: keys, certificate, or a model by its name.
func (s *Server) CountReload(what, result string) {
	s.metrics.reloads.WithLabelValues(what, result).Inc()
}

// loadCollector tells what is in work at the moment, and which models are served.
type loadCollector struct{ s *Server }

var (
	inWorkDesc    = prometheus.NewDesc("rag_retrieval_requests_in_work", "Requests that wait or are computed.", nil, nil)
	limitDesc     = prometheus.NewDesc("rag_retrieval_requests_in_work_limit", "Limit of requests in work; further ones get 429.", nil, nil)
	readyDesc     = prometheus.NewDesc("rag_retrieval_ready", "1 while GET /ready says so.", nil, nil)
	modelDesc     = prometheus.NewDesc("rag_retrieval_model_info", "A served model. The fingerprint changes with its files and the options that change scores.", []string{"model", "kind", "fingerprint"}, nil)
	callsDesc     = prometheus.NewDesc("rag_retrieval_queue_calls", "Batches of requests that wait for the model.", []string{"model"}, nil)
	textsDesc     = prometheus.NewDesc("rag_retrieval_queue_texts", "Texts, or pairs, that wait for the model.", []string{"model"}, nil)
	tokensDesc    = prometheus.NewDesc("rag_retrieval_queue_tokens", "Tokens that wait for the model.", []string{"model"}, nil)
	runsDesc      = prometheus.NewDesc("rag_retrieval_batches_running", "Batches that the model computes.", []string{"model"}, nil)
	loadCollected = []*prometheus.Desc{inWorkDesc, limitDesc, readyDesc, modelDesc, callsDesc, textsDesc, tokensDesc, runsDesc}
)

// Describe implements prometheus.Collector.
func (c *loadCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range loadCollected {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *loadCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(inWorkDesc, len(c.s.slots))
	gauge(limitDesc, cap(c.s.slots))
	ready := 1
	if c.s.leaving.Load() {
		ready = 0
	}
	gauge(readyDesc, ready)
	for _, m := range c.s.Models() {
		load := m.Load()
		gauge(modelDesc, 1, m.Name, string(m.Kind()), m.fingerprint)
		gauge(callsDesc, load.Calls, m.Name)
		gauge(textsDesc, load.Rows, m.Name)
		gauge(tokensDesc, load.Tokens, m.Name)
		gauge(runsDesc, load.Runs, m.Name)
	}
}

// observer hears of a model's runs once a server serves the model.
type observer struct {
	f atomic.Pointer[func(scoring.QueueRun)]
}

func (o *observer) observe(r scoring.QueueRun) {
	if f := o.f.Load(); f != nil {
		(*f)(r)
	}
}

// observe has the metrics hear of a model's runs.
func (s *Server) observe(m *Model) {
	f := func(r scoring.QueueRun) { s.metrics.run(m.Name, r) }
	m.runs.f.Store(&f)
}
