package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/refs"
	"rag-retrieval-go/mteb"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "measure a model on reranking tasks: MAP and MRR@10",
		Description: `Rows of a data file: {"query": "…", "positive": ["…"], "negative": ["…"]}.

Examples:
  rag-retrieval eval --model out/model --data test.jsonl
  rag-retrieval eval --model out/model --data a.jsonl --data b.jsonl --format markdown --json result.json`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "folder or hub id of the model", Required: true},
			&cli.StringSliceFlag{Name: "data", Usage: "file of samples, also .gz or .parquet; may be given several times", Required: true},
			&cli.StringFlag{Name: "rule", Usage: "scoring rule: mteb-1 (ties as one threshold, all candidates) or mteb-2 (trec_eval)", Value: string(mteb.Rule1)},
			&cli.StringFlag{Name: "json", Usage: "write the results to this file"},
			&cli.StringFlag{Name: "save-scores", Usage: "write every candidate's score to this file, one row per query"},
			&cli.StringFlag{Name: "format", Usage: "of what is printed: table, markdown, csv or json", Value: "table"},
		}, scoringFlags()...),
		OnUsageError: onUsageError,
		Action:       evaluate,
	}
}

func evaluate(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	rule := mteb.Rule(c.String("rule"))
	if !slices.Contains(mteb.Rules, rule) {
		return usagef("--rule is %q, want one of %v", rule, mteb.Rules)
	}
	if !slices.Contains(eval.Formats, c.String("format")) {
		return usagef("--format is %q, want one of %v", c.String("format"), eval.Formats)
	}
	var tasks []mteb.Task
	for _, path := range c.StringSlice("data") {
		local, err := refs.Data(c.Context, path)
		if err != nil {
			return err
		}
		t, err := mteb.ReadJSONL(local)
		if err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	scorer, kind, closeModel, err := openScorer(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeModel()) }()
	report := mteb.Report{Model: c.String("model"), Kind: string(kind)}
	var saved []mteb.ScoreRow
	for _, t := range tasks {
		bar := progress.New(t.Name, 0, 0)
		out, err := eval.Run(c.Context, scorer, t, rule, func(done, total int) {
			bar.Total(total)
			bar.Set(done, "texts")
		})
		bar.Done()
		if err != nil {
			return err
		}
		sayOddities(t, out.Result.Ties)
		report.Results = append(report.Results, out.Result)
		saved = append(saved, mteb.ScoreRows(t, out.Scores)...)
	}
	return writeResults(c, report, saved)
}

// sayOddities tells of samples that were left out or that hang on how ties are broken.
func sayOddities(t mteb.Task, ties int) {
	if t.Dropped > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d rows without positives or negatives were left out, as MTEB does\n", t.Name, t.Dropped)
	}
	if ties > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d queries have a positive and a negative of equal score\n", t.Name, ties)
	}
}

func writeResults(c *cli.Context, report mteb.Report, saved []mteb.ScoreRow) error {
	if path := c.String("save-scores"); path != "" {
		if err := jsonl.Write(path, saved); err != nil {
			return err
		}
	}
	if path := c.String("json"); path != "" {
		if err := report.Write(path); err != nil {
			return err
		}
	}
	return eval.WriteReport(os.Stdout, c.String("format"), report)
}
