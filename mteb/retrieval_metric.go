package mteb

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Cutoffs are the ranks k at which retrieval is measured: the first k documents count.
var Cutoffs = [...]int{1, 3, 5, 10, 20, 100, 1000}

// MostHits is how many documents of a query are measured.
const MostHits = 1000

// AtCutoffs holds a metric at each of Cutoffs, as fractions.
type AtCutoffs [len(Cutoffs)]float64

// RetrievalMeasures holds the metrics of one query, or their means over all queries of a task.
type RetrievalMeasures struct {
	NDCG      AtCutoffs // with the relevance itself as gain
	MAP       AtCutoffs // the sum of the precisions at relevant ranks, divided by the number of all relevant documents
	Recall    AtCutoffs
	Precision AtCutoffs // divided by k, also where fewer documents were found
	MRR       AtCutoffs // the reciprocal rank of the first relevant document
	HitRate   AtCutoffs // 1 if a relevant document was found
}

// retrievalMetric is a metric with mteb's name for it.
type retrievalMetric struct {
	name string
	of   func(m *RetrievalMeasures) *AtCutoffs
}

var retrievalMetrics = []retrievalMetric{
	{"ndcg", func(m *RetrievalMeasures) *AtCutoffs { return &m.NDCG }},
	{"map", func(m *RetrievalMeasures) *AtCutoffs { return &m.MAP }},
	{"recall", func(m *RetrievalMeasures) *AtCutoffs { return &m.Recall }},
	{"precision", func(m *RetrievalMeasures) *AtCutoffs { return &m.Precision }},
	{"mrr", func(m *RetrievalMeasures) *AtCutoffs { return &m.MRR }},
	{"hit_rate", func(m *RetrievalMeasures) *AtCutoffs { return &m.HitRate }},
}

// At returns the metric at the cutoff k, which must be one of Cutoffs.
func (a AtCutoffs) At(k int) float64 { return a[slices.Index(Cutoffs[:], k)] }

// ByName returns all metrics by mteb's names, such as ndcg_at_10.
func (m RetrievalMeasures) ByName() map[string]float64 {
	out := map[string]float64{}
	for _, x := range retrievalMetrics {
		for i, k := range Cutoffs {
			out[fmt.Sprintf("%s_at_%d", x.name, k)] = x.of(&m)[i]
		}
	}
	return out
}

// RetrievalMetrics holds the metrics of a task.
type RetrievalMetrics struct {
	RetrievalMeasures // means over all queries
	PerQuery          []RetrievalMeasures
	// Ties counts queries where a relevant document and another one have the same score.
	Ties int
	// Empty counts queries for which nothing was found. Their metrics are 0.
	Empty int
}

// EvaluateRetrieval measures a run on a task as mteb 2.20's RetrievalEvaluator does, which computes all but MRR with trec_eval:
// documents are ranked by score, equal scores by descending document id; the means of all but MRR are rounded to five places. A
// NaN is an error. Queries without a relevant document count, with 0.
func EvaluateRetrieval(t RetrievalTask, run Run) (RetrievalMetrics, error) {
	var m RetrievalMetrics
	if len(run) != len(t.Queries) || len(run) == 0 {
		return m, fmt.Errorf("the run has %d queries, want %d", len(run), len(t.Queries))
	}
	ids := idReader{t: t, known: map[int]string{}}
	for i, q := range t.Queries {
		hits, err := ids.ranked(q, run[i])
		if err != nil {
			return m, fmt.Errorf("the query %q: %w", q.ID, err)
		}
		if len(hits) == 0 {
			m.Empty++
		}
		if q.hasTie(hits) {
			m.Ties++
		}
		m.PerQuery = append(m.PerQuery, q.measure(hits))
	}
	for _, x := range retrievalMetrics {
		mean := x.of(&m.RetrievalMeasures)
		for k := range Cutoffs {
			for i := range m.PerQuery {
				mean[k] += x.of(&m.PerQuery[i])[k]
			}
			if mean[k] /= float64(len(run)); x.name != "mrr" {
				mean[k] = roundDecimal(mean[k], 5)
			}
		}
	}
	return m, nil
}

// roundDecimal rounds the exact value of x to places, as Python's round does. math.Round(x * 1e5) would round the product first.
func roundDecimal(x float64, places int) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', places, 64), 64)
	if err != nil {
		return math.NaN() // FormatFloat's output is always a number
	}
	return y
}

// idReader reads documents' ids where they break ties, each only once.
type idReader struct {
	t     RetrievalTask
	known map[int]string
	err   error
}

func (r *idReader) id(document int) string {
	id, ok := r.known[document]
	if !ok {
		d, err := r.t.Corpus.Document(document)
		if err != nil {
			r.err = err
		}
		id = d.ID
		r.known[document] = id
	}
	return id
}

// ranked returns what was found for a query, best first, without a document of the query's own id where the task wants that.
func (r *idReader) ranked(q RetrievalQuery, found []Hit) ([]Hit, error) {
	hits := slices.Clone(found)
	for _, h := range hits {
		if math.IsNaN(float64(h.Score)) {
			return nil, fmt.Errorf("the score of the document %q is not a number", r.id(h.Document))
		}
	}
	SortHits(hits, r.id)
	if r.err != nil {
		return nil, r.err
	}
	hits = hits[:min(MostHits, len(hits))]
	if !r.t.IgnoreIdenticalIDs {
		return hits, nil
	}
	own, ok := r.t.Corpus.Number(q.ID)
	return slices.DeleteFunc(hits, func(h Hit) bool { return ok && h.Document == own }), nil
}

// Ranked returns each query's MostHits best hits of a run, best first.
func (t RetrievalTask) Ranked(run Run) (Run, error) {
	if len(run) != len(t.Queries) {
		return nil, fmt.Errorf("the run has %d queries, want %d", len(run), len(t.Queries))
	}
	t.IgnoreIdenticalIDs = false // they are left out where they are measured
	ids := idReader{t: t, known: map[int]string{}}
	out := make(Run, len(run))
	for i, q := range t.Queries {
		var err error
		if out[i], err = ids.ranked(q, run[i]); err != nil {
			return nil, fmt.Errorf("the query %q: %w", q.ID, err)
		}
	}
	return out, nil
}

// SortHits sorts by descending score, equal scores by descending id, as trec_eval does.
func SortHits(hits []Hit, id func(document int) string) {
	slices.SortFunc(hits, func(a, b Hit) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		case a.Document == b.Document:
			return 0
		}
		return strings.Compare(id(b.Document), id(a.Document))
	})
}

// measure computes the metrics of a ranking, best first.
func (q RetrievalQuery) measure(hits []Hit) RetrievalMeasures {
	var m RetrievalMeasures
	gains := slices.Clone(q.Absent)
	for _, g := range q.Relevance {
		gains = append(gains, g)
	}
	gains = slices.DeleteFunc(gains, func(g int) bool { return g <= 0 })
	slices.SortFunc(gains, func(a, b int) int { return b - a })
	relevant := len(gains)
	if relevant == 0 {
		return m
	}
	sum, ideal, precisions, found, first := 0.0, 0.0, 0.0, 0, 0.0
	rank := 0
	for c, k := range Cutoffs {
		for ; rank < k; rank++ {
			if rank < relevant {
				ideal += float64(gains[rank]) / math.Log2(float64(rank)+2)
			}
			if rank >= len(hits) {
				continue
			}
			gain := q.Relevance[hits[rank].Document]
			if gain <= 0 {
				continue
			}
			found++
			sum += float64(gain) / math.Log2(float64(rank)+2)
			precisions += float64(found) / float64(rank+1)
			if first == 0 {
				first = 1 / float64(rank+1)
			}
		}
		m.NDCG[c] = sum / ideal
		m.MAP[c] = precisions / float64(relevant)
		m.Recall[c] = float64(found) / float64(relevant)
		m.Precision[c] = float64(found) / float64(k)
		m.MRR[c] = first
		if found > 0 {
			m.HitRate[c] = 1
		}
	}
	return m
}

// hasTie says whether a relevant document and another one have the same score. hits are sorted by score.
func (q RetrievalQuery) hasTie(hits []Hit) bool {
	for start := 0; start < len(hits); {
		end, relevant := start, 0
		for ; end < len(hits) && hits[end].Score == hits[start].Score; end++ {
			if q.Relevance[hits[end].Document] > 0 {
				relevant++
			}
		}
		if relevant > 0 && relevant < end-start {
			return true
		}
		start = end
	}
	return false
}
