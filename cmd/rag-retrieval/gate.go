package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/mteb"
)

func gateCommand() *cli.Command {
	return &cli.Command{
		Name: "gate", Usage: "fail where results fell below a baseline: for CI", ArgsUsage: "RESULTS.json",
		Description: `RESULTS.json is what eval --json wrote; a baseline is what --update makes of such a file. Exit 1 and a table where MAP,
MRR@10, or nDCG@10 of a retrieval task, fell by more than --max-drop points (1 point is 0.01), or where a task is missing, or was measured on
other data or in another precision (fp32, bf16, int8).

Examples:
  rag-retrieval gate --baseline baseline.json --max-drop 0.5 results.json
  rag-retrieval gate --baseline baseline.json --update results.json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "baseline", Usage: "file to hold the results against", Required: true},
			&cli.Float64Flag{Name: "max-drop", Usage: "points that a metric may lose", Value: 0.5},
			&cli.BoolFlag{Name: "update", Usage: "write the results to the baseline instead"},
			&cli.StringFlag{Name: "format", Usage: "table, markdown, csv, json or html", Value: "table"},
		},
		OnUsageError: onUsageError,
		Action:       gate,
	}
}

func gate(c *cli.Context) error {
	path, format := c.String("baseline"), c.String("format")
	switch {
	case c.NArg() != 1:
		return usagef("want one file of results; see %s --help", c.Command.HelpName)
	case !(c.Float64("max-drop") >= 0):
		return usagef("--max-drop is %g, want at least 0", c.Float64("max-drop"))
	case !slices.Contains(eval.Formats, format):
		return usagef("--format is %q, want one of %v", format, eval.Formats)
	}
	now, err := mteb.ReadReport(c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("update") {
		if err := eval.Baseline(now).Write(path); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "the baseline %s is now %s\n", path, c.Args().First())
		return nil
	}
	baseline, err := mteb.ReadReport(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; make it with --update", err)
	} else if err != nil {
		return err
	}
	checks, err := eval.Gate(baseline, now, c.Float64("max-drop"))
	if err != nil {
		return err
	}
	// Precisions that differ here are units of bf16, or those of a baseline of an earlier version.
	noteDifferences([]string{path, c.Args().First()}, []mteb.Report{baseline, now})
	return showChecks(format, checks, c.Float64("max-drop"))
}

// showChecks prints the checks. It returns an error if one failed.
func showChecks(format string, checks []eval.Check, maxDrop float64) error {
	failed := 0
	var rows [][]string
	for _, x := range checks {
		verdict := "ok"
		if !x.OK {
			verdict = "FAILED"
			failed++
		}
		rows = append(rows, []string{x.Task, string(x.Rule), x.Metric, fmt.Sprintf("%.2f", 100*x.Baseline), fmt.Sprintf("%.2f", 100*x.Now),
			fmt.Sprintf("%+.2f", 100*x.Now-100*x.Baseline), verdict})
	}
	var err error
	if format == "json" {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(checks)
	} else {
		err = eval.WriteTable(os.Stdout, format, []string{"task", "rule", "metric", "baseline", "now", "difference", ""}, rows)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d metrics fell by more than %g points", failed, len(checks), maxDrop)
	}
	return err
}
