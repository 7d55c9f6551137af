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
}

// NewResult makes a result from a task's metrics.
func NewResult(t Task, rule Rule, m Metrics, seconds float64) Result {
	r := Result{
		Task: t.Name, Rule: rule, Queries: len(t.Samples), MAP: m.AP, MRR: m.RR, NDCG: m.NDCG, Recall: m.Recall,
		Seconds: seconds, Ties: m.Ties, Data: t.Hash(),
	}
	for i, s := range t.Samples {
		r.PerQuery = append(r.PerQuery, Query{s.ID, s.Query[0], m.PerSample[i].AP, m.PerSample[i].RR})
	}
	return r
}

// Report is the content of a file that eval --json writes.
type Report struct {
	Model   string   `json:"model"`
	Kind    string   `json:"kind"`
	Results []Result `json:"results"`
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
