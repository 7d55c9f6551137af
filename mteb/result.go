package mteb

import (
	"encoding/json"
	"fmt"
	"os"

	"rag-retrieval-go/internal/atomicdir"
)

// Result is one model's metrics on one task, as fractions.
type Result struct {
	Task     string  `json:"task"`
	Rule     Rule    `json:"rule"`
	Queries  int     `json:"queries"`
	MAP      float64 `json:"map"`
	MRR      float64 `json:"mrr"`
	NDCG     float64 `json:"ndcg_at_10"`
	Recall   float64 `json:"recall_at_10"`
	Seconds  float64 `json:"seconds"`
	Ties     int     `json:"ties"`                // queries with a positive and a negative of equal score
	Data     string  `json:"data_sha256"`         // Task.Hash
	PerQuery []Query `json:"per_query,omitempty"` // for comparisons
	// Scores has all metrics of a retrieval task by mteb's names, such as ndcg_at_10. MAP is map_at_1000 there, and MRR is
	// mrr_at_10. It is nil for a reranking task.
	Scores map[string]float64 `json:"scores,omitempty"`
	// Documents is the number of documents in a retrieval task's corpus.
	Documents int `json:"documents,omitempty"`
	// Int8 says how much int8 changed MAP. It is nil for scores in fp32.
	Int8 *Int8Check `json:"int8,omitempty"`
}

// Int8Check compares MAP in int8 and in fp32 on some of a task's queries.
type Int8Check struct {
	Queries    int     `json:"queries"`
	MAP        float64 `json:"map"`
	MAPFloat32 float64 `json:"map_fp32"`
}

// Query holds the metrics of one query.
type Query struct {
	ID    string  `json:"id"`
	Query string  `json:"query"`
	AP    float64 `json:"ap"`
	RR    float64 `json:"rr"`
	// NDCG is nDCG@10 of a query of a retrieval task.
	NDCG float64 `json:"ndcg_at_10,omitempty"`
}

// NewResult makes a result from a task's metrics.
func NewResult(t Task, rule Rule, m Metrics, seconds float64) Result {
	r := Result{
		Task: t.Name, Rule: rule, Queries: len(t.Samples), MAP: m.AP, MRR: m.RR, NDCG: m.NDCG, Recall: m.Recall,
		Seconds: seconds, Ties: m.Ties, Data: t.Hash(),
	}
	for i, s := range t.Samples {
		r.PerQuery = append(r.PerQuery, Query{ID: s.ID, Query: s.Query[0], AP: m.PerSample[i].AP, RR: m.PerSample[i].RR})
	}
	return r
}

// Cutoffs of the metrics that stand for a retrieval task in tables.
const (
	mainCutoff   = 10 // of nDCG, MTEB's main score, MRR and recall
	recallCutoff = 100
)

// NewRetrievalResult makes a result from a retrieval task's metrics.
func NewRetrievalResult(t RetrievalTask, m RetrievalMetrics, seconds float64) Result {
	r := Result{Task: t.Name, Rule: Rule2, Queries: len(t.Queries), Documents: t.Corpus.Len(), Seconds: seconds, Ties: m.Ties, Data: t.Hash()}
	r.setScores(m.ByName())
	for i, q := range t.Queries {
		x := m.PerQuery[i]
		r.PerQuery = append(r.PerQuery, Query{q.ID, q.Text, x.MAP.At(MostHits), x.MRR.At(mainCutoff), x.NDCG.At(mainCutoff)})
	}
	return r
}

// setScores sets all metrics of a retrieval task.
func (r *Result) setScores(scores map[string]float64) {
	r.Scores = scores
	r.MAP, r.MRR = r.at("map", MostHits), r.at("mrr", mainCutoff)
	r.NDCG, r.Recall = r.at("ndcg", mainCutoff), r.at("recall", mainCutoff)
}

// at returns a metric of a retrieval task.
func (r *Result) at(metric string, k int) float64 {
	return r.Scores[fmt.Sprintf("%s_at_%d", metric, k)]
}

// Retrieval says whether the task is a retrieval task.
func (r Result) Retrieval() bool { return r.Scores != nil }

// Recall100 is recall@100 of a retrieval task.
func (r Result) Recall100() float64 { return r.at("recall", recallCutoff) }

// Report is the content of a file that eval --json writes.
type Report struct {
	Model string `json:"model"`
	Kind  string `json:"kind"`
	// Precision names how the model's products were computed: fp32, int8, bf16-amx and so on. It is empty for scores without a model.
	Precision string `json:"precision,omitempty"`
	// Lengths are the limits that texts were cut to; nil where the model's maker is not this program, or an earlier version of it.
	Lengths *Lengths `json:"lengths,omitempty"`
	Results []Result `json:"results"`
}

// Lengths are limits in tokens: of queries and passages, or of a reranker's pairs. What a kind of model does not have is 0.
type Lengths struct {
	QueryMaxLen   int `json:"query_max_len,omitempty"`
	PassageMaxLen int `json:"passage_max_len,omitempty"`
	MaxLen        int `json:"max_len,omitempty"`
}

// Write writes a report as JSON. A crash leaves no half-written file.
func (r Report) Write(path string) error { return atomicdir.WriteJSON(path, r) }

// ReadReport reads a report that Write wrote.
func ReadReport(path string) (Report, error) {
	var r Report
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: not a result of rag-retrieval eval --json: %w", path, err)
	}
	if len(r.Results) == 0 {
		return r, fmt.Errorf(`%s: not a result of rag-retrieval eval --json: "results" is missing or empty`, path)
	}
	return r, nil
}

// Find returns the report's result on a task by a rule.
func (r Report) Find(task string, rule Rule) (Result, bool) {
	for _, x := range r.Results {
		if x.Task == task && x.Rule == rule {
			return x, true
		}
	}
	return Result{}, false
}
