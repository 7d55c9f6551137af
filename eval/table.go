package eval

import (
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"rag-retrieval-go/internal/page"
	"rag-retrieval-go/mteb"
)

// Formats lists the output formats of tables.
var Formats = []string{"table", "markdown", "csv", "json", "html"}

// WriteTable writes rows below a header. On a terminal, the format "table" is wrapped to the terminal's width.
func WriteTable(w io.Writer, format string, header []string, rows [][]string) error {
	switch format {
	case "csv":
		c := csv.NewWriter(w)
		return c.WriteAll(append([][]string{header}, rows...))
	case "table", "markdown":
		if format == "table" {
			rows = FitToWidth(header, rows, Width(w, 0))
		}
		options := []tablewriter.Option{
			tablewriter.WithHeaderAutoFormat(tw.Off),
			tablewriter.WithRowAutoWrap(tw.WrapNone), // FitToWidth has wrapped them
			tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: alignment(len(header), rows)}),
			tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: alignment(len(header), rows)}),
		}
		if format == "markdown" {
			options = append(options, tablewriter.WithRenderer(renderer.NewMarkdown()))
		}
		t := tablewriter.NewTable(w, options...)
		t.Header(header)
		if err := t.Bulk(rows); err != nil {
			return err
		}
		return t.Render()
	case "html":
		return tablePage.Execute(w, struct {
			Style  template.CSS
			Header []string
			Rows   [][]string
		}{page.Style, header, rows})
	}
	return fmt.Errorf("format is %q, want one of %v", format, Formats)
}

//go:embed table.html.tmpl
var tableText string

var tablePage = template.Must(template.New("table").Parse(tableText))

// alignment aligns the first column and columns with texts of several lines to the left, and the others to the right.
func alignment(n int, rows [][]string) []tw.Align {
	out := []tw.Align{tw.AlignLeft}
	for i := 1; i < n; i++ {
		align := tw.AlignRight
		for _, r := range rows {
			if strings.Contains(r[i], "\n") {
				align = tw.AlignLeft
			}
		}
		out = append(out, align)
	}
	return out
}

// WriteReport writes a model's results, with MAP and MRR@10 in percent.
func WriteReport(w io.Writer, format string, r mteb.Report) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	if len(r.Results) > 0 && r.Results[0].Retrieval() {
		return WriteRetrieval(w, format, []mteb.Report{r})
	}
	header := []string{"task", "rule", "queries", "MAP", "MRR@10", "seconds"}
	var rows [][]string
	sumMAP, sumMRR, seconds := 0.0, 0.0, 0.0
	for _, x := range r.Results {
		rows = append(rows, []string{x.Task, string(x.Rule), fmt.Sprint(x.Queries), percent(x.MAP), percent(x.MRR), fmt.Sprintf("%.1f", x.Seconds)})
		sumMAP, sumMRR, seconds = sumMAP+x.MAP, sumMRR+x.MRR, seconds+x.Seconds
	}
	if n := float64(len(r.Results)); n > 1 {
		rows = append(rows, []string{"average", "", "", percent(sumMAP / n), percent(sumMRR / n), fmt.Sprintf("%.1f", seconds)})
	}
	return WriteTable(w, format, header, rows)
}

// WriteRetrieval writes the results of models on retrieval tasks in percent, all but JSON. Several models have a column with their
// names.
func WriteRetrieval(w io.Writer, format string, reports []mteb.Report) error {
	header := []string{"task", "queries", "documents", metricNDCG, "MAP", "MRR@10", "Recall@10", "Recall@100", "seconds"}
	if len(reports) > 1 {
		header = append([]string{"model"}, header...)
	}
	var rows [][]string
	for _, r := range reports {
		for _, row := range retrievalRows(r) {
			if len(reports) > 1 {
				row = append([]string{r.Model}, row...)
			}
			rows = append(rows, row)
		}
	}
	return WriteTable(w, format, header, rows)
}

// retrievalRows are a model's results, and their average if there are several.
func retrievalRows(r mteb.Report) [][]string {
	var rows [][]string
	var sums [5]float64
	seconds := 0.0
	for _, x := range r.Results {
		cells := []string{x.Task, fmt.Sprint(x.Queries), fmt.Sprint(x.Documents)}
		for i, value := range []float64{x.NDCG, x.MAP, x.MRR, x.Recall, x.Recall100()} {
			cells = append(cells, percent(value))
			sums[i] += value
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.1f", x.Seconds)))
		seconds += x.Seconds
	}
	if n := float64(len(r.Results)); n > 1 {
		cells := []string{"average", "", ""}
		for _, sum := range sums {
			cells = append(cells, percent(sum/n))
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.1f", seconds)))
	}
	return rows
}

// WriteComparisons writes comparisons as a table. Where precisions differ, the models' names have them. Below it, except in CSV, it lists at most worst of the queries that lost
// most.
func WriteComparisons(w io.Writer, format string, all []Comparison, worst int) error {
	header := []string{"task", "model"}
	if len(all) == 0 {
		return nil
	}
	all = labelled(all)
	first := metricsOf(all[0])
	for _, m := range first {
		header = append(header, m.name, "difference", "95 % interval")
	}
	header = append(header, "won", "lost")
	var rows [][]string
	for i, c := range all {
		metrics := metricsOf(c)
		if metrics[0].name != first[0].name {
			return fmt.Errorf("%s and %s are not both retrieval tasks: compare them in two calls", all[0].Task, c.Task)
		}
		if i == 0 || all[i-1].Task != c.Task {
			cells := []string{c.Task, c.From}
			for _, m := range metrics {
				cells = append(cells, percent(m.From), "", "")
			}
			rows = append(rows, append(cells, "", ""))
		}
		cells := []string{c.Task, c.To}
		for _, m := range metrics {
			cells = append(cells, percent(m.To), signed(m.Difference), signed(m.Low)+" to "+signed(m.High))
		}
		rows = append(rows, append(cells, fmt.Sprint(c.Won), fmt.Sprint(c.Lost)))
	}
	if err := WriteTable(w, format, header, rows); err != nil || format == "csv" {
		return err
	}
	for _, c := range all {
		if err := writeWorst(w, c, worst); err != nil {
			return err
		}
	}
	return nil
}

// namedChange is a metric's change with the metric's name in tables.
type namedChange struct {
	name string
	Change
}

// metricsOf returns the metrics that a table of comparisons shows: MAP and MRR@10, or nDCG@10 and MAP of a retrieval task.
func metricsOf(c Comparison) []namedChange {
	if c.NDCG != nil {
		return []namedChange{{metricNDCG, *c.NDCG}, {"MAP", c.MAP}}
	}
	return []namedChange{{"MAP", c.MAP}, {"MRR@10", c.MRR}}
}

// writeWorst lists at most n of the queries that lost most.
func writeWorst(w io.Writer, c Comparison, n int) error {
	lost := c.Worst(n)
	if len(lost) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s, %s: the queries that lost most\n", c.Task, c.To); err != nil {
		return err
	}
	for _, g := range lost {
		if _, err := fmt.Fprintf(w, "  %s %s -> %s  %s\n", c.Metric, percent(g.From), percent(g.To), OneLine(g.Query)); err != nil {
			return err
		}
	}
	return nil
}

// OneLine shortens a text to one line of at most 100 characters.
func OneLine(s string) string {
	const most = 100
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(r)
}

func percent(x float64) string { return fmt.Sprintf("%.2f", 100*x) }
