package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
)

// evaluateSuite measures every model of a suite on every task. Models and tasks that cannot be measured are named at the end; the
// others are measured all the same.
func evaluateSuite(c *cli.Context, j job) error {
	for _, flag := range []string{"model", "data", "task", "scores", "rule", "json", "save-scores", "kind", "query-prompt", "passage-prompt"} {
		if c.IsSet(flag) {
			return usagef("--%s does not go with --suite, whose file says it", flag)
		}
	}
	if !slices.Contains(eval.Formats, c.String("format")) || c.String("format") == "json" {
		return usagef("--format is %q, want table, markdown, csv or html", c.String("format"))
	}
	s, err := eval.ReadSuite(c.String("suite"))
	if err := j.agree(err); err != nil {
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
		tasks[name] = failingOnce(p)
	}
	fmt.Fprintf(os.Stderr, "%s; each cell: measured / published (difference); published values: %s\n", s.Title, s.Source)
	return measureTable(c, j, s, tasks, missing, func(m eval.SuiteModel) retriever.Options {
		o := scoringOptions(c)
		o.Kind = modelcard.Kind(m.Kind)
		if m.QueryPrompt != "" {
			o.QueryPrompt = &m.QueryPrompt
		}
		return o
	})
}

// evaluateModels measures every --model on every task, as a table without published values.
func evaluateModels(c *cli.Context, j job, rule mteb.Rule, wanted []pending) error {
	for _, flag := range []string{"scores", "json", "save-scores"} {
		if c.IsSet(flag) {
			return usagef("--%s goes with one --model", flag)
		}
	}
	if c.String("format") == "json" {
		return usagef("--format json goes with one --model")
	}
	s := eval.Suite{Rule: rule}
	for _, ref := range c.StringSlice("model") {
		s.Models = append(s.Models, eval.SuiteModel{Name: ref, Model: ref})
	}
	tasks := map[string]pending{}
	for _, p := range wanted {
		name := p.name
		if p.known == nil {
			name = dataName(name)
			if _, taken := tasks[name]; taken {
				name = p.name
			}
		}
		s.Tasks = append(s.Tasks, name)
		tasks[name] = failingOnce(p)
	}
	return measureTable(c, j, s, tasks, nil, func(eval.SuiteModel) retriever.Options { return scoringOptions(c) })
}

// dataName is a data file's name in a table.
func dataName(path string) string {
	name := filepath.Base(path)
	for _, suffix := range []string{".gz", ".jsonl", ".parquet"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// measureTable measures models on tasks and writes the table. missing has the reason for each task that cannot be measured.
// options returns how a model is opened.
func measureTable(c *cli.Context, j job, s eval.Suite, tasks map[string]pending, missing map[string]string, options func(m eval.SuiteModel) retriever.Options) error {
	var rows []eval.SuiteRow
	failed := 0
	for _, m := range s.Models {
		row := eval.SuiteRow{Model: m, Missing: map[string]string{}}
		for name, why := range missing {
			row.Missing[name] = why
		}
		if err := measureRow(c, j, s, tasks, options(m), &row, len(rows) > 0); err != nil {
			return err
		}
		failed += len(row.Missing)
		rows = append(rows, row)
	}
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

// failingOnce keeps the error of loading a task's data for the models that follow: a hub that cannot be reached is asked
// once.
func failingOnce(p pending) pending {
	load := p.load
	var failed error
	p.load = func(ctx context.Context) (mteb.Task, error) {
		if failed != nil {
			return mteb.Task{}, failed
		}
		t, err := load(ctx)
		if ctx.Err() == nil {
			failed = err
		}
		return t, err
	}
	return p
}

// measureRow measures one model; only an interruption is an error. others says that models before it were measured.
func measureRow(c *cli.Context, j job, s eval.Suite, tasks map[string]pending, o retriever.Options, row *eval.SuiteRow, others bool) (err error) {
	e := &evaluation{c: c, job: j, rule: s.Rule, others: others}
	if err := e.openModel(row.Model.Model, o); err != nil {
		for _, name := range s.Tasks {
			row.Missing[name] = err.Error()
		}
		return j.agree(c.Context.Err())
	}
	defer func() { err = j.agree(errors.Join(err, e.source.close())) }()
	row.SizeGB = weightsGB(e.model)
	for _, name := range s.Tasks {
		p, ok := tasks[name]
		if !ok {
			continue
		}
		if err := e.measure(p); err != nil {
			if stop := j.agree(c.Context.Err()); stop != nil {
				return errors.Join(stop, err) // err says what the same command would do next
			}
			row.Missing[name] = err.Error()
			continue
		}
		r := e.report.Results[len(e.report.Results)-1]
		r.Task = name
		row.Results = append(row.Results, r)
	}
	return nil
}

// weightsGB is the size of a model's weights, of one form; 0 where it is not known.
func weightsGB(m retriever.Info) float64 {
	if onnxfile.Is(m.Ref) {
		return 0
	}
	for _, pattern := range []string{"*.safetensors", "pytorch_model*.bin"} {
		files, _ := filepath.Glob(filepath.Join(m.Dir, pattern)) // the pattern is well-formed
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
