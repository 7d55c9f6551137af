package eval

import (
	"fmt"

	"rag-retrieval-go/mteb"
)

// Check compares one metric of one task with a baseline.
type Check struct {
	Task     string    `json:"task"`
	Rule     mteb.Rule `json:"rule"`
	Metric   string    `json:"metric"`
	Baseline float64   `json:"baseline"` // fractions
	Now      float64   `json:"now"`
	OK       bool      `json:"ok"`
}

// Drop returns how much the metric fell, in points.
func (c Check) Drop() float64 { return 100 * (c.Baseline - c.Now) }

// Gate compares results with every task of a baseline. MAP and MRR, and nDCG@10 of a retrieval task, may fall by at most maxDrop
// points. It is an error if a task is missing, was measured on other data, or in another precision, which may hide a drop.
func Gate(baseline, now mteb.Report, maxDrop float64) (checks []Check, err error) {
	if was, is := precisionOf(baseline), precisionOf(now); was != "" && is != "" && typeOf(was) != typeOf(is) {
		return nil, fmt.Errorf("the results are in %s, the baseline in %s: measure in the same precision, or make the baseline anew with --update; compare shows what a precision changes", is, was)
	}
	for _, b := range baseline.Results {
		r, ok := now.Find(b.Task, b.Rule)
		if !ok {
			return nil, fmt.Errorf("the results lack task %s by rule %s, which the baseline has", b.Task, b.Rule)
		}
		if b.Data == "" || r.Data == "" {
			return nil, fmt.Errorf("%s: the results or the baseline do not say on which data: measure again with eval --json --fresh", b.Task)
		}
		if r.Data != b.Data {
			return nil, fmt.Errorf("%s: the results are on other data (%.12s…) than the baseline (%.12s…)", b.Task, r.Data, b.Data)
		}
		type metric struct {
			name   string
			before float64
			after  float64
		}
		metrics := []metric{{"MAP", b.MAP, r.MAP}, {"MRR@10", b.MRR, r.MRR}}
		if b.Retrieval() {
			metrics = append([]metric{{metricNDCG, b.NDCG, r.NDCG}}, metrics...)
		}
		for _, m := range metrics {
			c := Check{Task: b.Task, Rule: b.Rule, Metric: m.name, Baseline: m.before, Now: m.after}
			const rounding = 1e-9 // a drop of exactly maxDrop passes
			c.OK = c.Drop() <= maxDrop+rounding
			checks = append(checks, c)
		}
	}
	return checks, nil
}

// Baseline returns a report without the fields that Gate does not need.
func Baseline(r mteb.Report) mteb.Report {
	out := r
	out.Results = nil
	for _, x := range r.Results {
		x.PerQuery = nil
		out.Results = append(out.Results, x)
	}
	return out
}
