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
	mrrCut = 10   // MRR@10
	mapCut = 1000 // map_at_1000
)

// Metrics are the means over a task's samples, as fractions.
type Metrics struct {
	MAP, MRR float64
	// Ties counts samples with equal scores on both sides, where the rules can differ.
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
		ap, rr := rule.Sample(scores[i], positives)
		m.MAP += ap
		m.MRR += rr
		if tied(scores[i], positives) {
			m.Ties++
		}
	}
	n := float64(len(samples))
	m.MAP, m.MRR = m.MAP/n, m.MRR/n
	if rule == Rule2 {
		m.MAP = math.Round(m.MAP*1e5) / 1e5
	}
	return m, nil
}

// Sample gives one sample's average precision and reciprocal rank; the first positives scores are relevant.
func (r Rule) Sample(scores []float32, positives int) (ap, rr float64) {
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
			return after(i, j, positives)
		})
		return cutPrecision(order, positives), reciprocalRank(order, positives)
	}
	sort.SliceStable(order, func(a, b int) bool { return scores[order[a]] > scores[order[b]] })
	return groupedPrecision(order, scores, positives), reciprocalRank(order, positives)
}

// after says whether candidate i's document id sorts behind j's: "negative_…" behind "apositive_…", then by number.
func after(i, j, positives int) bool {
	if (i < positives) != (j < positives) {
		return i >= positives
	}
	return i > j
}

func reciprocalRank(order []int, positives int) float64 {
	for rank, i := range order[:min(mrrCut, len(order))] {
		if i < positives {
			return 1 / float64(rank+1)
		}
	}
	return 0
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
