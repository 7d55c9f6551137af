package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/mteb"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "compare models query by query", ArgsUsage: "A.json B.json …",
		Description: `The files are what eval --json wrote, on the same data. Each is compared with the first: MAP and MRR@10 (nDCG@10 and MAP of retrieval tasks) with a 95 %
confidence interval of the difference (paired bootstrap over queries), how many queries won and lost, and which lost most. Where the files are of
different precisions (int8, bf16), a line on stderr says so, and the models' names have them.

Examples:
  rag-retrieval compare before.json after.json
  rag-retrieval compare before.json after.json --worst 20
  rag-retrieval compare before.json one.json two.json --format html --output compare.html`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "worst", Usage: "how many queries that lost most are listed", Value: 5},
			&cli.StringFlag{Name: "format", Usage: "table, markdown, csv, json or html", Value: "table"},
			&cli.StringFlag{Name: "output", Usage: "write to this file instead of stdout"},
		},
		OnUsageError: onUsageError,
		Action:       compareReports,
	}
}

func compareReports(c *cli.Context) error {
	paths, format := c.Args().Slice(), c.String("format")
	switch {
	case len(paths) < 2:
		return usagef("want two or more result files; see %s --help", c.Command.HelpName)
	case !slices.Contains(eval.Formats, format):
		return usagef("--format is %q, want one of %v", format, eval.Formats)
	case c.Int("worst") < 0:
		return usagef("--worst is %d, want at least 0", c.Int("worst"))
	}
	var reports []mteb.Report
	for _, path := range paths {
		r, err := mteb.ReadReport(path)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	var all []eval.Comparison
	for i, r := range reports[1:] {
		found, err := eval.Compare(reports[0], r)
		if err != nil {
			return fmt.Errorf("%s and %s: %w", paths[0], paths[i+1], err)
		}
		all = append(all, found...)
	}
	noteDifferences(paths, reports)
	write := func(w io.Writer) error { return writeComparisons(w, format, all, c.Int("worst")) }
	if path := c.String("output"); path != "" {
		return atomicdir.Create(path, write)
	}
	return write(os.Stdout)
}

// noteDifferences says how the reports, of files with these names, were computed differently.
func noteDifferences(names []string, reports []mteb.Report) {
	for _, differ := range []string{eval.DifferingPrecisions(names, reports), eval.DifferingLengths(names, reports)} {
		if differ != "" {
			note(differ)
		}
	}
}

func writeComparisons(w io.Writer, format string, all []eval.Comparison, worst int) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(all)
	case "html":
		return eval.WriteComparePage(w, all, worst)
	}
	return eval.WriteComparisons(w, format, all, worst)
}
