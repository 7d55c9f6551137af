package serve

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rag-retrieval-go/models/scoring"
)

// teiMetrics have the names of Text Embeddings Inference, so that dashboards and autoscalers made for it go on working.
type teiMetrics struct {
	count, success             prometheus.Counter
	failure                    *prometheus.CounterVec // by TEI's name of the error
	duration, queue, inference prometheus.Histogram   // of successes
	batchSize, batchTokens     prometheus.Histogram
	waiting                    prometheus.GaugeFunc
}

func newTEIMetrics(s *Server) *teiMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "te_" + name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "te_" + name, Help: help, Buckets: buckets})
	}
	return &teiMetrics{
		count:       counter("request_count", "TEI's name: requests for a model."),
		success:     counter("request_success", "TEI's name: requests that succeeded."),
		failure:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "te_request_failure", Help: "TEI's name: requests that failed."}, []string{"err"}),
		duration:    histogram("request_duration", "TEI's name: seconds of a request that succeeded.", requestSeconds),
		queue:       histogram("request_queue_duration", "TEI's name: seconds that it waited for the model.", requestSeconds),
		inference:   histogram("request_inference_duration", "TEI's name: seconds that its batches ran.", requestSeconds),
		batchSize:   histogram("batch_next_size", "TEI's name: texts of a batch.", prometheus.ExponentialBuckets(1, 2, 10)),
		batchTokens: histogram("batch_next_tokens", "TEI's name: tokens of a batch.", prometheus.ExponentialBuckets(1, 2, 16)),
		waiting: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "te_queue_size", Help: "TEI's name: texts that wait for a model."}, func() float64 {
			n := 0
			for _, m := range s.Models() {
				n += m.Load().Rows
			}
			return float64(n)
		}),
	}
}

func (m *teiMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.count, m.success, m.failure, m.duration, m.queue, m.inference, m.batchSize, m.batchTokens, m.waiting}
}

func (m *teiMetrics) request(x *record, totals scoring.TraceTotals, took time.Duration) {
	if x.method != http.MethodPost {
		return
	}
	m.count.Inc()
	if x.err != nil {
		m.failure.WithLabelValues(string(x.err.Kind)).Inc()
		return
	}
	m.success.Inc()
	m.duration.Observe(took.Seconds())
	m.queue.Observe(totals.Waited.Seconds())
	m.inference.Observe(totals.Ran.Seconds())
}

func (m *teiMetrics) run(r scoring.QueueRun) {
	m.batchSize.Observe(float64(r.Rows))
	m.batchTokens.Observe(float64(r.Tokens))
}
