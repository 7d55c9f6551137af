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

// WriteComparisons writes comparisons as a table. Below it, except in CSV, it lists at most worst of the queries that lost
// most.
func WriteComparisons(w io.Writer, format string, all []Comparison, worst int) error {
	header := []string{"task", "model", "MAP", "difference", "95 % interval", "MRR@10", "difference", "95 % interval", "won", "lost"}
	interval := func(c Change) string { return signed(c.Low) + " to " + signed(c.High) }
	var rows [][]string
	for i, c := range all {
		if i == 0 || all[i-1].Task != c.Task {
			rows = append(rows, []string{c.Task, c.From, percent(c.MAP.From), "", "", percent(c.MRR.From), "", "", "", ""})
		}
		rows = append(rows, []string{c.Task, c.To, percent(c.MAP.To), signed(c.MAP.Difference), interval(c.MAP),
			percent(c.MRR.To), signed(c.MRR.Difference), interval(c.MRR), fmt.Sprint(c.Won), fmt.Sprint(c.Lost)})
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
		if _, err := fmt.Fprintf(w, "  AP %s -> %s  %s\n", percent(g.From), percent(g.To), OneLine(g.Query)); err != nil {
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
