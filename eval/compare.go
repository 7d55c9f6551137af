package eval

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"

	"rag-retrieval-go/mteb"
)

// Comparison compares two models on a task.
type Comparison struct {
	Task    string    `json:"task"`
	Rule    mteb.Rule `json:"rule"`
	Queries int       `json:"queries"`
	From    string    `json:"from"` // the first model
	To      string    `json:"to"`   // the second model
	// How the models' products were computed: fp32, int8, bf16-amx and so on. Empty: not known, or scores without a model.
	FromPrecision string `json:"from_precision,omitempty"`
	ToPrecision   string `json:"to_precision,omitempty"`

	MAP    Change  `json:"map"`
	MRR    Change  `json:"mrr"`
	NDCG   *Change `json:"ndcg_at_10,omitempty"` // of a retrieval task
	Metric string  `json:"metric"`               // what a query gains or loses: AP, or nDCG@10 on a retrieval task
	Won    int     `json:"won"`                  // queries with a higher value by the second model
	Lost   int     `json:"lost"`                 // queries with a lower value by the second model
	Gains  []Gain  `json:"gains"`
}

// The metrics in which a query gains or loses.
const (
	metricAP   = "AP"
	metricNDCG = "nDCG@10"
)

// Change is a metric before and after, as fractions, with the 95 % confidence interval of the difference.
type Change struct {
	From       float64 `json:"from"`
	To         float64 `json:"to"`
	Difference float64 `json:"difference"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
}

// Gain is one query's change of Comparison.Metric.
type Gain struct {
	ID    string  `json:"id"`
	Query string  `json:"query"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
}

// Difference returns the change. It is negative if the query lost.
func (g Gain) Difference() float64 { return g.To - g.From }

// Compare compares two reports task by task. Gains are sorted, the greatest loss first. It is an error if the results of a
// task are on different data, or if the reports have no task and rule in common.
func Compare(from, to mteb.Report) ([]Comparison, error) {
	var out []Comparison
	for _, a := range from.Results {
		b, ok := to.Find(a.Task, a.Rule)
		if !ok {
			continue
		}
		c, err := compare(a, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Task, err)
		}
		c.From, c.To, c.FromPrecision, c.ToPrecision = from.Model, to.Model, precisionOf(from), precisionOf(to)
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the results of %s and %s have no task and rule in common", from.Model, to.Model)
	}
	return out, nil
}

func compare(a, b mteb.Result) (Comparison, error) {
	c := Comparison{Task: a.Task, Rule: a.Rule, Queries: a.Queries, Metric: metricAP}
	if a.Data != b.Data {
		return c, fmt.Errorf("the results are on different data (%.12s… and %.12s…)", a.Data, b.Data)
	}
	if len(a.PerQuery) == 0 || len(a.PerQuery) != len(b.PerQuery) {
		return c, errors.New(`"per_query" is missing: measure again with this version's eval --json, and --fresh where --mteb-dir has the result`)
	}
	value := func(q mteb.Query) float64 { return q.AP }
	if a.Retrieval() {
		c.Metric, value = metricNDCG, func(q mteb.Query) float64 { return q.NDCG }
	}
	var ap, rr, ndcg []float64
	for i, x := range a.PerQuery {
		y := b.PerQuery[i]
		ap, rr, ndcg = append(ap, y.AP-x.AP), append(rr, y.RR-x.RR), append(ndcg, y.NDCG-x.NDCG)
		if value(y) > value(x) {
			c.Won++
		} else if value(y) < value(x) {
			c.Lost++
		}
		c.Gains = append(c.Gains, Gain{x.ID, x.Query, value(x), value(y)})
	}
	sort.SliceStable(c.Gains, func(i, j int) bool { return c.Gains[i].Difference() < c.Gains[j].Difference() })
	c.MAP, c.MRR = change(a.MAP, b.MAP, ap), change(a.MRR, b.MRR, rr)
	if a.Retrieval() {
		x := change(a.NDCG, b.NDCG, ndcg)
		c.NDCG = &x
	}
	return c, nil
}

// resamples is the number of bootstrap samples.
const resamples = 10_000

// change computes the 95 % percentile interval of the paired bootstrap over queries (Efron and Tibshirani 1993): each sample
// draws as many differences as there are, with replacement, and averages them. The seed is fixed, so that equal results
// give equal intervals.
func change(from, to float64, differences []float64) Change {
	rng := rand.New(rand.NewPCG(1, 2))
	means := make([]float64, resamples)
	n := len(differences)
	for i := range means {
		sum := 0.0
		for range n {
			sum += differences[rng.IntN(n)]
		}
		means[i] = sum / float64(n)
	}
	sort.Float64s(means)
	return Change{from, to, to - from, means[resamples/40], means[resamples-1-resamples/40]}
}

// Significant says whether the interval excludes zero.
func (c Change) Significant() bool { return c.Low > 0 || c.High < 0 }
