package mine

import (
	"fmt"
	"strconv"
)

// Report counts what became of every query and of every candidate.
type Report struct {
	Queries   int `json:"queries"`   // distinct ones
	Positives int `json:"positives"` // of all queries
	Documents int `json:"documents"` // distinct ones
	RangeMax  int `json:"range_max"` // that was used
	// The fate of each query.
	Kept         int `json:"kept"`          // with as many negatives as wanted
	TooFew       int `json:"too_few"`       // with at least one, but fewer
	AllFiltered  int `json:"all_filtered"`  // with candidates, none of which became a negative
	NoCandidates int `json:"no_candidates"` // with none besides its positives
	// The fate of each candidate.
	Candidates Counts `json:"candidates"`
	// MeanPositive and MeanNegative are means of scores; 0 where there are none.
	MeanPositive float64 `json:"mean_positive_score"`
	MeanNegative float64 `json:"mean_negative_score"`
}

func newReport(s *Set, o Options) Report {
	return Report{Queries: s.Queries(), Positives: s.positives, Documents: s.Len(), RangeMax: o.RangeMax}
}

// add counts a query.
func (r *Report) add(q Ranked, chosen []Candidate, n Counts, o Options) {
	switch {
	case len(chosen) == o.NumNegatives:
		r.Kept++
	case len(chosen) > 0:
		r.TooFew++
	case n.Candidates > 0:
		r.AllFiltered++
	default:
		r.NoCandidates++
	}
	c := &r.Candidates
	c.Candidates += n.Candidates
	c.AbsoluteMargin += n.AbsoluteMargin
	c.RelativeMargin += n.RelativeMargin
	c.MaxScore += n.MaxScore
	c.MinScore += n.MinScore
	c.RangeMin += n.RangeMin
	c.NotChosen += n.NotChosen
	before := c.Chosen
	c.Chosen += n.Chosen
	// Sums become means step by step, so that nothing has to be finished at the end.
	done := r.Kept + r.TooFew + r.AllFiltered + r.NoCandidates
	lowest := q.Positives[0].Score
	for _, p := range q.Positives {
		lowest = min(lowest, p.Score)
	}
	r.MeanPositive += (float64(lowest) - r.MeanPositive) / float64(done)
	for i, x := range chosen {
		r.MeanNegative += (float64(x.Score) - r.MeanNegative) / float64(before+i+1)
	}
}

// Table is the report as rows of a table, and its header.
func (r Report) Table() (header []string, rows [][]string) {
	row := func(what string, n, of int) {
		share := ""
		if of > 0 {
			share = fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
		}
		rows = append(rows, []string{what, strconv.Itoa(n), share})
	}
	row("queries", r.Queries, 0)
	row("queries with enough negatives", r.Kept, r.Queries)
	row("queries with too few negatives", r.TooFew, r.Queries)
	row("queries whose candidates were all filtered", r.AllFiltered, r.Queries)
	row("queries without candidates", r.NoCandidates, r.Queries)
	c := r.Candidates
	row("candidates", c.Candidates, 0)
	for _, x := range []struct {
		what string
		n    int
	}{
		{"dropped by absolute_margin", c.AbsoluteMargin}, {"dropped by relative_margin", c.RelativeMargin},
		{"dropped by max_score", c.MaxScore}, {"dropped by min_score", c.MinScore}, {"skipped by range_min", c.RangeMin},
	} {
		if x.n > 0 {
			row("candidates "+x.what, x.n, c.Candidates)
		}
	}
	row("candidates let through but not chosen", c.NotChosen, c.Candidates)
	row("candidates chosen as negatives", c.Chosen, c.Candidates)
	rows = append(rows, []string{"mean score of the lowest positive", "", fmt.Sprintf("%.4f", r.MeanPositive)},
		[]string{"mean score of the negatives", "", fmt.Sprintf("%.4f", r.MeanNegative)})
	return []string{"", "number", "share"}, rows
}
