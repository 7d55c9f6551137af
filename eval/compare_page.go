package eval

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"rag-retrieval-go/internal/page"
)

//go:embed compare.html.tmpl
var compareText string

var comparePage = template.Must(template.New("compare").Funcs(template.FuncMap{
	"percent": percent,
	"signed":  signed,
	"queries": func(metric string, gains []Gain) any {
		return struct {
			Metric string
			Gains  []Gain
		}{metric, gains}
	},
	"good": func(c Change) string {
		switch {
		case !c.Significant():
			return ""
		case c.Low > 0:
			return "good"
		}
		return "bad"
	},
}).Parse(compareText))

// signed formats a difference of fractions as points.
func signed(x float64) string { return fmt.Sprintf("%+.2f", 100*x) }

// WriteComparePage writes comparisons as a self-contained HTML page. It lists at most listed of the worst and of the best
// queries of each.
func WriteComparePage(w io.Writer, all []Comparison, listed int) error {
	type section struct {
		Comparison
		Chart       page.Chart
		Worst, Best []Gain
	}
	var sections []section
	for _, c := range labelled(all) {
		s := section{Comparison: c, Worst: c.Worst(listed), Best: c.BestQueries(listed)}
		var values []float64
		for _, g := range c.Gains {
			values = append(values, 100*g.Difference())
		}
		var err error
		if s.Chart, err = page.Histogram("Queries by change of "+c.Metric, "points", values, 41); err != nil {
			return err
		}
		sections = append(sections, s)
	}
	return comparePage.Execute(w, struct {
		Style    template.CSS
		Sections []section
	}{page.Style, sections})
}

// Worst returns at most n queries that lost, the greatest loss first.
func (c Comparison) Worst(n int) []Gain {
	var out []Gain
	for _, g := range c.Gains {
		if g.Difference() < 0 && len(out) < n {
			out = append(out, g)
		}
	}
	return out
}

// BestQueries returns at most n queries that won, the greatest gain first.
func (c Comparison) BestQueries(n int) []Gain {
	var out []Gain
	for i := len(c.Gains) - 1; i >= 0; i-- {
		if g := c.Gains[i]; g.Difference() > 0 && len(out) < n {
			out = append(out, g)
		}
	}
	return out
}
