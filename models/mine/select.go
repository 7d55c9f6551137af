package mine

import (
	"slices"
	"sort"

	"rag-retrieval-go/internal/splitmix"
)

// Candidate is a passage with its score for a query.
type Candidate struct {
	Document int // its number
	Score    float32
}

// Ranked is a query with what was found for it.
type Ranked struct {
	// Key stands for the query in Random: the same key, seed and candidates give the same draw.
	Key uint64
	// Positives are the query's own passages; there is at least one.
	Positives []Candidate
	// Candidates are the passages found, without repetition. The query's positives among them are skipped, unless
	// IncludePositives is set. Equal scores stay in this order.
	Candidates []Candidate
}

// Counts says what became of candidates.
type Counts struct {
	Candidates     int `json:"candidates"` // besides the query's own positives
	AbsoluteMargin int `json:"absolute_margin"`
	RelativeMargin int `json:"relative_margin"`
	MaxScore       int `json:"max_score"`
	MinScore       int `json:"min_score"`
	RangeMin       int `json:"range_min"`
	NotChosen      int `json:"not_chosen"` // let through by every limit, but enough others were chosen
	Chosen         int `json:"chosen"`
}

// Select chooses a query's negatives, best first. RangeMax must be set, see withRange.
func (o Options) Select(q Ranked) ([]Candidate, Counts) {
	left, n := o.filter(q)
	left = left[:min(len(left), o.RangeMax)]
	skipped := min(len(left), o.RangeMin)
	left = left[skipped:]
	chosen := left[:min(len(left), o.NumNegatives)]
	if o.SamplingStrategy == Random && len(left) > o.NumNegatives {
		chosen = draw(left, o.NumNegatives, o.Seed, q.Key)
	}
	n.RangeMin, n.Chosen = skipped, len(chosen)
	n.NotChosen = n.Candidates - n.AbsoluteMargin - n.RelativeMargin - n.MaxScore - n.MinScore - n.RangeMin - n.Chosen
	return chosen, n
}

// filter gives the candidates that the limits let through, best first.
func (o Options) filter(q Ranked) (left []Candidate, n Counts) {
	lowest := q.Positives[0].Score
	for _, p := range q.Positives {
		lowest = min(lowest, p.Score)
	}
	above := func(limit *float64, excess func(m float32) bool) bool { return limit != nil && excess(float32(*limit)) }
	for _, c := range q.Candidates {
		if !o.IncludePositives && slices.ContainsFunc(q.Positives, func(p Candidate) bool { return p.Document == c.Document }) {
			continue
		}
		n.Candidates++
		s := c.Score
		switch { // the conversions keep the compiler from fusing a product and a sum into one rounding
		case above(o.AbsoluteMargin, func(m float32) bool { return s+m > lowest }):
			n.AbsoluteMargin++
		case above(o.RelativeMargin, func(m float32) bool { return s > lowest-float32(max(lowest, -lowest)*m) }):
			n.RelativeMargin++
		case above(o.MaxScore, func(m float32) bool { return s > m }):
			n.MaxScore++
		case above(o.MinScore, func(m float32) bool { return s < m }):
			n.MinScore++
		default:
			left = append(left, c)
		}
	}
	sort.SliceStable(left, func(i, j int) bool { return left[i].Score > left[j].Score }) // a cross-encoder has another order
	return left, n
}

// draw takes n of the candidates at random, in their order.
func draw(from []Candidate, n int, seed, key uint64) []Candidate {
	at := make([]int, len(from))
	for i := range at {
		at[i] = i
	}
	state := splitmix.Mix(splitmix.Mix(seed) ^ key)
	for i := range n { // a Fisher-Yates shuffle that ends after n places
		j := i + int(splitmix.Mix(state+uint64(i))%uint64(len(at)-i))
		at[i], at[j] = at[j], at[i]
	}
	slices.Sort(at[:n])
	out := make([]Candidate, n)
	for i, k := range at[:n] {
		out[i] = from[k]
	}
	return out
}
