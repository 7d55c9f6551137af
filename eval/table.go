package eval

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"rag-retrieval-go/mteb"
)

// Formats are the forms that a table can be written in.
var Formats = []string{"table", "markdown", "csv", "json"}

// WriteTable writes rows below a header.
func WriteTable(w io.Writer, format string, header []string, rows [][]string) error {
	switch format {
	case "csv":
		c := csv.NewWriter(w)
		return c.WriteAll(append([][]string{header}, rows...))
	case "table", "markdown":
		options := []tablewriter.Option{
			tablewriter.WithHeaderAutoFormat(tw.Off),
			tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: alignment(len(header))}),
			tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: alignment(len(header))}),
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
	}
	return fmt.Errorf("format is %q, want one of %v", format, Formats)
}

// alignment puts the first column, a name, to the left and the numbers to the right.
func alignment(n int) []tw.Align {
	out := []tw.Align{tw.AlignLeft}
	for len(out) < n {
		out = append(out, tw.AlignRight)
	}
	return out
}

// WriteReport writes a model's results: MAP and MRR@10 in percent, as the field prints them.
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

func percent(x float64) string { return fmt.Sprintf("%.2f", 100*x) }
