package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/refs"
	"rag-retrieval-go/mteb"
)

// evaluateSuite measures every model of a suite on every task. What cannot be had is named, and the others go on.
func evaluateSuite(c *cli.Context) error {
	for _, flag := range []string{"model", "data", "task", "scores", "rule", "json", "save-scores", "kind", "query-prompt", "passage-prompt"} {
		if c.IsSet(flag) {
			return usagef("--%s does not go with --suite, whose file says it", flag)
		}
	}
	if !slices.Contains(eval.Formats, c.String("format")) || c.String("format") == "json" {
		return usagef("--format is %q, want table, markdown, csv or html", c.String("format"))
	}
	s, err := eval.ReadSuite(c.String("suite"))
	if err != nil {
		return err
	}
	tasks := map[string]pending{}
	missing := map[string]string{}
	for _, name := range s.Tasks {
		k, err := mteb.FindTask(name)
		if err != nil {
			return err
		}
		p, err := knownTask(c, k, s.Rule)
		if err != nil {
			missing[name] = err.Error()
			continue
		}
		tasks[name] = loadedOnce(p)
	}
	var rows []eval.SuiteRow
	failed := 0
	for _, m := range s.Models {
		row := eval.SuiteRow{Model: m, Missing: map[string]string{}}
		for name, why := range missing {
			row.Missing[name] = why
		}
		if err := measureRow(c, s, tasks, &row); err != nil {
			return err
		}
		failed += len(row.Missing)
		rows = append(rows, row)
	}
	fmt.Fprintf(os.Stderr, "%s; each cell: measured / published (difference); published values: %s\n", s.Title, s.Source)
	if err := eval.WriteSuite(os.Stdout, c.String("format"), s, rows); err != nil {
		return err
	}
	for _, r := range rows {
		for _, reason := range r.Reasons(s.Tasks) {
			fmt.Fprintln(os.Stderr, reason)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cells could not be measured", failed, len(s.Models)*len(s.Tasks))
	}
	return nil
}

// loadedOnce keeps a task's data, or the error of loading it, for the models that follow.
func loadedOnce(p pending) pending {
	load, done := p.load, false
	var t mteb.Task
	var failed error
	p.load = func(ctx context.Context) (mteb.Task, error) {
		if !done {
			t, failed = load(ctx)
			done = ctx.Err() == nil
		}
		return t, failed
	}
	return p
}

// measureRow measures one model; only an interruption is an error.
func measureRow(c *cli.Context, s eval.Suite, tasks map[string]pending, row *eval.SuiteRow) error {
	x := scored{ref: row.Model.Model, kind: row.Model.Kind}
	if p := row.Model.QueryPrompt; p != "" {
		x.queryPrompt = &p
	}
	scorer, kind, done, err := openScorer(c, x)
	if c.Context.Err() != nil {
		return c.Context.Err()
	}
	if err != nil {
		for _, name := range s.Tasks {
			row.Missing[name] = err.Error()
		}
		return nil
	}
	row.SizeGB = weightsGB(c.Context, row.Model.Model)
	e := &evaluation{
		c: c, rule: s.Rule, scorer: func(string) eval.Scorer { return scorer },
		report: mteb.Report{Model: row.Model.Model, Kind: string(kind)},
	}
	for _, name := range s.Tasks {
		p, ok := tasks[name]
		if !ok {
			continue
		}
		if err := e.measure(p); err != nil {
			if c.Context.Err() != nil {
				return errors.Join(c.Context.Err(), done())
			}
			row.Missing[name] = err.Error()
		}
	}
	row.Results = e.report.Results
	return done()
}

// weightsGB is the size of a model's weights, of one form; 0 where it is not known.
func weightsGB(ctx context.Context, model string) float64 {
	dir, err := refs.Model(ctx, model)
	if err != nil {
		return 0
	}
	for _, pattern := range []string{"*.safetensors", "pytorch_model*.bin"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well-formed
		size := int64(0)
		for _, f := range files {
			if st, err := os.Stat(f); err == nil {
				size += st.Size()
			}
		}
		if size > 0 {
			return float64(size) / 1e9
		}
	}
	return 0
}
