package mteb

import (
	"fmt"
	"math"
	"sort"
)

// Rule is one of the two scoring rules under the name of the MTEB generation that uses it.
type Rule string

const (
	// Rule1 is MTEB 1.x and C-MTEB: average precision over all candidates with equal scores as one threshold
	// (scikit-learn's average_precision_score), and MRR@10 after a stable sort, so that positives win ties.
	Rule1 Rule = "mteb-1"
	// Rule2 is MTEB 2.x: trec_eval's map_cut_1000, rounded to five places over all queries, and MRR@10, both with
	// ties broken by descending document id, so that negatives win them.
	Rule2 Rule = "mteb-2"
)

// Rules lists both.
var Rules = []Rule{Rule1, Rule2}

const (
	cut    = 10   // MRR@10, nDCG@10, recall@10
	mapCut = 1000 // map_at_1000
)

// Measured are the metrics of one sample, or the means of a task's, as fractions.
type Measured struct {
	AP     float64 // MAP of a task
	RR     float64 // of the first ten; MRR@10
	NDCG   float64 // nDCG@10, trec_eval's
	Recall float64 // of the first ten
}

// Metrics are a task's.
type Metrics struct {
	Measured
	PerSample []Measured
	// Ties counts samples with equal scores on both sides at a place that counts, where the rules can differ.
	Ties int
}

// Evaluate scores a task: scores[i] are those of samples[i].Candidates().
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
		if tied(scores[i], positives) {
			m.Ties++
		}
	}
	n := float64(len(samples))
	m.AP, m.RR, m.NDCG, m.Recall = m.AP/n, m.RR/n, m.NDCG/n, m.Recall/n
	if rule == Rule2 { // all but MRR
		for _, x := range []*float64{&m.AP, &m.NDCG, &m.Recall} {
			*x = math.Round(*x*1e5) / 1e5
		}
	}
	return m, nil
}

// Measure gives one sample's metrics; the first positives scores are relevant. ids break ties by the second rule; nil
// stands for those that MTEB 2.x gives to data of the first shape.
func (r Rule) Measure(scores []float32, positives int, ids []string) Measured {
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
			return after(i, j, positives)
		})
		return r.ranked(order, positives, cutPrecision(order, positives))
	}
	sort.SliceStable(order, func(a, b int) bool { return scores[order[a]] > scores[order[b]] })
	return r.ranked(order, positives, groupedPrecision(order, scores, positives))
}

// ranked adds what depends on the first ten alone.
func (r Rule) ranked(order []int, positives int, ap float64) Measured {
	m := Measured{AP: ap}
	ideal := 0.0
	for rank, i := range order[:min(cut, len(order))] {
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

// after says whether candidate i's document id sorts behind j's: "negative_…" behind "apositive_…", then by number.
func after(i, j, positives int) bool {
	if (i < positives) != (j < positives) {
		return i >= positives
	}
	return i > j
}

// groupedPrecision is Σ over distinct scores of (recall gained there) · precision.
func groupedPrecision(order []int, scores []float32, positives int) float64 {
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

// cutPrecision is trec_eval's map_cut: the precisions at the relevant ranks of the first 1,000, over all relevant.
func cutPrecision(order []int, positives int) float64 {
	ap, hits := 0.0, 0
	for k, i := range order[:min(mapCut, len(order))] {
		if i < positives {
			hits++
			ap += float64(hits) / float64(k+1)
		}
	}
	return ap / float64(positives)
}

// tied says whether a positive and a negative have the same score.
func tied(scores []float32, positives int) bool {
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
