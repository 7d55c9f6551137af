package mteb

import (
	"fmt"
	"math"
	"sort"
)

// Rule is one of the two scoring rules, named after the MTEB generation that uses it. They differ in ties and rounding.
type Rule string

const (
	// Rule1 is the rule of MTEB 1.x and C-MTEB. Average precision is scikit-learn's average_precision_score: candidates
	// with equal scores share one threshold. MRR@10 uses a stable sort with positives first, so positives win ties.
	Rule1 Rule = "mteb-1"
	// Rule2 is the rule of MTEB 2.x. MAP is trec_eval's map_cut_1000; the mean is rounded to five places. Ties are broken
	// by descending document id, so that in 1.x data negatives win them.
	Rule2 Rule = "mteb-2"
)

// Rules lists both rules.
var Rules = []Rule{Rule1, Rule2}

const (
	cutoff    = 10   // MRR@10, nDCG@10, recall@10
	mapCutoff = 1000 // map_at_1000
)

// QueryMetrics holds the metrics of one sample as fractions. For a task it holds their means.
type QueryMetrics struct {
	AP     float64 // average precision; the mean is MAP
	RR     float64 // reciprocal rank within the first ten; the mean is MRR@10
	NDCG   float64 // nDCG@10, as trec_eval computes it
	Recall float64 // recall@10
}

// Metrics holds the metrics of a task.
type Metrics struct {
	QueryMetrics // means over all samples
	PerSample    []QueryMetrics
	// Ties counts samples with a positive and a negative of equal score. The rules can differ only there.
	Ties int
}

// Evaluate computes the metrics of a task. scores[i] has one score for each of samples[i].Candidates(). A wrong number of
// scores or a NaN is an error.
func Evaluate(rule Rule, samples []Sample, scores [][]float32) (Metrics, error) {
	var m Metrics
	if len(samples) != len(scores) || len(samples) == 0 {
		return m, fmt.Errorf("%d lists of scores for %d samples", len(scores), len(samples))
	}
	for i, s := range samples {
		positives := len(s.Positive)
		if len(scores[i]) != positives+len(s.Negative) {
			return m, fmt.Errorf("sample %s: %d scores for %d candidates", s.ID, len(scores[i]), positives+len(s.Negative))
		}
		for _, x := range scores[i] {
			if math.IsNaN(float64(x)) {
				return m, fmt.Errorf("sample %s: a score is not a number", s.ID)
			}
		}
		x := rule.Measure(scores[i], positives, s.DocumentIDs)
		m.PerSample = append(m.PerSample, x)
		m.AP, m.RR, m.NDCG, m.Recall = m.AP+x.AP, m.RR+x.RR, m.NDCG+x.NDCG, m.Recall+x.Recall
		if hasTie(scores[i], positives) {
			m.Ties++
		}
	}
	n := float64(len(samples))
	m.AP, m.RR, m.NDCG, m.Recall = m.AP/n, m.RR/n, m.NDCG/n, m.Recall/n
	if rule == Rule2 { // all but MRR
		for _, x := range []*float64{&m.AP, &m.NDCG, &m.Recall} {
			*x = roundDecimal(*x, 5)
		}
	}
	return m, nil
}

// Measure computes the metrics of one sample. The first positives of the scores belong to relevant candidates. ids are the
// candidates' document ids, by which Rule2 breaks ties; nil means the ids that MTEB 2.x gives to data in the 1.x format.
func (r Rule) Measure(scores []float32, positives int, ids []string) QueryMetrics {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	if r == Rule2 {
		sort.SliceStable(order, func(a, b int) bool {
			i, j := order[a], order[b]
			if scores[i] != scores[j] {
				return scores[i] > scores[j]
			}
			if ids != nil {
				return ids[i] > ids[j]
			}
			return idSortsAfter(i, j, positives)
		})
		return r.metricsOfOrder(order, positives, averagePrecisionCut(order, positives))
	}
	sort.SliceStable(order, func(a, b int) bool { return scores[order[a]] > scores[order[b]] })
	return r.metricsOfOrder(order, positives, averagePrecision(order, scores, positives))
}

// metricsOfOrder computes the metrics that depend only on the first ten, and adds the average precision ap.
func (r Rule) metricsOfOrder(order []int, positives int, ap float64) QueryMetrics {
	m := QueryMetrics{AP: ap}
	ideal := 0.0
	for rank, i := range order[:min(cutoff, len(order))] {
		gain := 1 / math.Log2(float64(rank)+2)
		if rank < positives {
			ideal += gain
		}
		if i >= positives {
			continue
		}
		if m.RR == 0 {
			m.RR = 1 / float64(rank+1)
		}
		m.NDCG += gain
		m.Recall += 1 / float64(positives)
	}
	m.NDCG /= ideal
	return m
}

// idSortsAfter says whether candidate i's document id, as MTEB 2.x makes it, sorts after candidate j's. Ids of negatives
// ("negative_…") sort after ids of positives ("apositive_…").
func idSortsAfter(i, j, positives int) bool {
	if (i < positives) != (j < positives) {
		return i >= positives
	}
	return i > j
}

// averagePrecision is scikit-learn's average_precision_score: Σ over distinct scores of (gain of recall) · precision.
func averagePrecision(order []int, scores []float32, positives int) float64 {
	ap, hits, before := 0.0, 0, 0
	for k, i := range order {
		if i < positives {
			hits++
		}
		if k+1 < len(order) && scores[order[k+1]] == scores[i] {
			continue
		}
		ap += float64(hits-before) / float64(positives) * float64(hits) / float64(k+1)
		before = hits
	}
	return ap
}

// averagePrecisionCut is trec_eval's map_cut_1000: the sum of the precisions at the relevant ranks within the first 1,000,
// divided by the number of all relevant candidates.
func averagePrecisionCut(order []int, positives int) float64 {
	ap, hits := 0.0, 0
	for k, i := range order[:min(mapCutoff, len(order))] {
		if i < positives {
			hits++
			ap += float64(hits) / float64(k+1)
		}
	}
	return ap / float64(positives)
}

// hasTie says whether a positive and a negative have the same score.
func hasTie(scores []float32, positives int) bool {
	seen := map[float32]bool{}
	for _, x := range scores[:positives] {
		seen[x] = true
	}
	for _, x := range scores[positives:] {
		if seen[x] {
			return true
		}
	}
	return false
}
