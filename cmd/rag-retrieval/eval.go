package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/jsonl"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
)

func evalCommand() *cli.Command {
	var names []string
	for _, t := range mteb.Tasks {
		names = append(names, t.Name)
	}
	var retrievalNames []string
	for _, t := range mteb.RetrievalTasks {
		retrievalNames = append(retrievalNames, t.Name)
	}
	return &cli.Command{
		Name: "eval", Usage: "measure a model on reranking tasks (MAP, MRR@10) or retrieval tasks (nDCG@10 and others)",
		Description: `Data are rows {"query": "…" or ["…"], "positive": ["…"], "negative": ["…"]} in a file, or a folder of such files, or of
MTEB 2.x's corpus, queries, qrels and top_ranked. Tasks are MTEB's, fetched from the hub at a pinned revision:
  ` + strings.Join(names, ", ") + `
A retrieval task (--retrieval) is a folder of corpus, queries and qrels in BEIR's or MTEB's form, or one of MTEB's:
  ` + strings.Join(retrievalNames, ", ") + `
An embedding or ColBERT model, or BM25, searches the whole corpus; --rerank has a second model score the best documents again.

Examples:
  rag-retrieval eval --model out/model --data test.jsonl
  rag-retrieval eval --model out/model --data test.jsonl --mixed-precision auto     # bf16 on a CPU where that is faster
  rag-retrieval eval --model BAAI/bge-small-zh-v1.5 --task T2Reranking --task CMedQAv2 --mteb-dir results
  rag-retrieval eval --model out/model --data a.jsonl --data b.parquet --format markdown --json result.json
  rag-retrieval eval --model base --model out/model --data a.jsonl --data b.jsonl     # a table of models and tasks
  rag-retrieval eval --suite scripts/suites/reranker.yaml --mteb-dir results
  mpirun -n 4 rag-retrieval eval --model out/model --data test.jsonl     # the ranks share the batches
  rag-retrieval eval --kind bm25 --data test.jsonl          # the words alone: what a model has to beat
  rag-retrieval eval --scores scores.jsonl --data test.jsonl
  rag-retrieval eval --model out/model --retrieval DATA/retrieval --save-run run.trec
  rag-retrieval eval --kind bm25 --retrieval DATA/retrieval --rerank out-reranker/model --top-k 100
  rag-retrieval eval --run run.trec --retrieval DATA/retrieval       # measure a run file of any program`,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringSliceFlag{Name: "model", Usage: "folder or hub id of the model, or an .onnx file beside a tokenizer; several give a table of models and tasks"},
			&cli.StringSliceFlag{Name: "data", Usage: "file or folder of samples, also .gz or .parquet; may be given several times"},
			&cli.StringSliceFlag{Name: "task", Usage: "name of an MTEB task; may be given several times"},
			&cli.StringFlag{Name: "data-dir", Usage: "take the data of --task or of MTEB's retrieval tasks from this folder: NAME/, or NAME.jsonl, NAME.jsonl.gz or NAME.parquet"},
			&cli.StringFlag{Name: "split", Usage: "of data with several splits; default: the task's own"},
			&cli.StringFlag{Name: "suite", Usage: "measure the models and tasks of this YAML file, beside published values; see scripts/suites"},
			&cli.StringFlag{Name: "scores", Usage: "take the scores from this file, rows {\"query_id\", \"scores\"[, \"task\"]}, instead of a model"},
			&cli.StringFlag{Name: "rule", Usage: "scoring rule: mteb-1 (ties as one threshold, all candidates) or mteb-2 (trec_eval)", Value: string(mteb.Rule1)},
			&cli.StringFlag{Name: "json", Usage: "write the results to this file"},
			&cli.StringFlag{Name: "mteb-dir", Usage: "write a result file of MTEB's form for each task into this folder; tasks that are there are not measured again"},
			&cli.StringFlag{Name: "save-scores", Usage: "write every candidate's score to this file, one row per query; tasks that --mteb-dir has are measured again"},
			&cli.BoolFlag{Name: "fresh", Usage: "measure from the beginning: neither go on where an earlier evaluation was stopped, nor take results from --mteb-dir"},
			&cli.IntFlag{Name: "int8-check", Usage: "with --int8: score this many queries of each task in fp32 too, and say what MAP loses", Value: 100},
			&cli.StringFlag{Name: "format", Usage: "of what is printed: table, markdown, csv, json or html", Value: "table"},
		}, retrievalFlags(), scoringFlags()),
		OnUsageError: onUsageError,
		Action:       onRanks(evaluate),
	}
}

func evaluate(c *cli.Context, j job) (err error) {
	defer func() {
		next := nothingBegun
		if c.IsSet("run") || c.String("scores") != "" || c.String("kind") == kindBM25 {
			next = beginsAgain
		}
		err = onInterrupt(err, next)
	}()
	if err := noArguments(c); err != nil {
		return err
	}
	if err := checkRetrieval(c); err != nil {
		return err
	}
	if err := j.checkOutputs(c, []string{"json", "save-scores", "save-run"}, []string{"mteb-dir"}); err != nil {
		return err
	}
	if c.IsSet("suite") {
		return evaluateSuite(c, j)
	}
	rule := mteb.Rule(c.String("rule"))
	if !slices.Contains(mteb.Rules, rule) {
		return usagef("--rule is %q, want one of %v", rule, mteb.Rules)
	}
	if !slices.Contains(eval.Formats, c.String("format")) {
		return usagef("--format is %q, want one of %v", c.String("format"), eval.Formats)
	}
	if c.IsSet("retrieval") {
		return evaluateRetrieval(c, j)
	}
	if c.String("scores") != "" || c.String("kind") == kindBM25 { // seconds of work, which rank 0 does
		if !j.first() {
			return nil
		}
		j = job{dist.Alone{}}
	}
	tasks, err := pendingTasks(c, rule)
	if err := j.agree(err); err != nil {
		return err
	}
	if len(c.StringSlice("model")) > 1 {
		return evaluateModels(c, j, rule, tasks)
	}
	e := &evaluation{c: c, job: j, rule: rule}
	if err := e.openSource(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.source.close()) }()
	for _, t := range tasks {
		if err := e.measure(t); err != nil {
			return errors.Join(err, e.show()) // what was measured before is kept
		}
	}
	return e.show()
}

// evaluation is a run of the command.
type evaluation struct {
	c      *cli.Context
	job    job
	rule   mteb.Rule
	source source
	model  retriever.Info // where the source is a model
	report mteb.Report
	saved  []mteb.ScoreRow
	others bool // models before this one were measured
}

// next is what the same command does after an interruption. kept says what is kept of the task that was interrupted, or is empty. It
// is empty where nothing was computed.
func (e *evaluation) next(kept string) string {
	again, measured := "", e.others || len(e.report.Results) > 0
	switch dir := e.c.String("mteb-dir"); {
	case measured && dir == "":
		again = "finished tasks are measured again (--mteb-dir keeps their results)"
	case measured && (e.c.IsSet("save-scores") || e.c.IsSet("save-run") || e.c.IsSet("run")):
		again = "finished tasks are measured again"
	case measured && kept == "":
		return goesOn(e.c, "finished tasks are in "+dir)
	}
	switch {
	case kept == "":
		return again
	case again == "":
		return goesOn(e.c, kept)
	}
	return goesOn(e.c, kept) + "; " + again
}

// measure measures one task and writes the results so far. All ranks of a job do it in step and have the same results; rank 0
// keeps the journal and writes.
func (e *evaluation) measure(p pending) (err error) {
	var j *eval.Journal
	defer func() { err = onInterrupt(err, e.next(keptIn(j))) }()
	folder := mteb.ResultFolder{Dir: e.c.String("mteb-dir"), Model: e.report.Model, Source: sourceOf(filepath.Clean(e.report.Model), e.report.Precision), Rule: e.rule}
	if folder.Dir != "" && p.place.Revision != "" { // known without loading
		if done, err := e.finished(folder, p.name, p.place, mteb.Result{Queries: p.known.Queries}); done || err != nil {
			return err
		}
	}
	t, err := e.load(p)
	if err != nil {
		return err
	}
	if folder.Dir != "" && p.place.Revision == "" {
		p.place.Revision = t.Hash()
		if done, err := e.finished(folder, t.Name, p.place, mteb.Result{Queries: len(t.Samples), Data: t.Hash()}); done || err != nil {
			return err
		}
	}
	if j, err = e.journal(t); err != nil {
		return err
	}
	finished := false
	defer func() { err = e.job.agree(errors.Join(err, j.Close(finished))) }() // only rank 0 has a file that it can fail to close
	out, err := e.score(t, j)
	if err != nil {
		return err
	}
	e.report.Results = append(e.report.Results, out.Result)
	e.saved = append(e.saved, mteb.ScoreRows(t, out.Scores)...)
	if e.job.first() {
		noteSamples(t, out.Result.Ties)
		err = e.write(folder, out.Result, p.place)
	}
	err = e.job.agree(err)
	finished = err == nil // until then the journal is all there is
	return err
}

// load reads a task's data, the same on all ranks.
func (e *evaluation) load(p pending) (t mteb.Task, err error) {
	err = e.job.inStep(func() error {
		return e.job.inTurn(func() (err error) {
			t, err = p.load(e.c.Context)
			return err
		})
	})
	if err != nil {
		return t, err
	}
	if p.known != nil {
		t.Name = p.known.Name
		if n := p.known.Queries; n > 0 && n != len(t.Samples) {
			fmt.Fprintf(os.Stderr, "%s: %d queries, MTEB's own data have %d\n", t.Name, len(t.Samples), n)
		}
	}
	if e.job.Size() == 1 {
		return t, nil
	}
	return t, e.job.agree(e.job.compare("its data are other ones", map[string]string{p.name: t.Hash()}))
}

// score scores a task, from where the journal ends.
func (e *evaluation) score(t mteb.Task, j *eval.Journal) (eval.Outcome, error) {
	bar := progress.New(os.Stderr, t.Name, 0, 0)
	out, err := eval.Run(e.c.Context, e.source.scorerOf(t.Name), t, e.rule, j, func(done, total int) {
		bar.SetTotal(total)
		bar.Set(done, "texts")
	})
	bar.Done()
	if err != nil {
		return out, err
	}
	n := e.c.Int("int8-check")
	if e.source.exact == nil || n <= 0 {
		return out, nil
	}
	return out, e.checkInt8(t, &out, n)
}

// checkInt8 measures on n of a task's queries how much MAP changes with int8.
func (e *evaluation) checkInt8(t mteb.Task, out *eval.Outcome, n int) (err error) {
	if err := e.job.agree(e.source.close()); err != nil { // frees its memory; the next task opens it again
		return err
	}
	m, err := e.source.exact()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	x, err := eval.CheckInt8(e.c.Context, retriever.SampleScorer{Ranker: m}, t, e.rule, out.Scores, eval.EvenlySpaced(len(t.Samples), n))
	if err != nil {
		return err
	}
	out.Result.Int8 = &x
	fmt.Fprintf(os.Stderr, "%s: MAP of %d queries is %.2f with %s, %.2f with fp32 (%+.2f)\n",
		t.Name, x.Queries, 100*x.MAP, e.report.Precision, 100*x.MAPFloat32, 100*(x.MAP-x.MAPFloat32))
	return nil
}

// sourceOf names what makes results, for mteb.ResultFolder: the model, and the precision where that is not fp32.
func sourceOf(model, precision string) string {
	if precision == "" || precision == kernels.None.Precision() {
		return model
	}
	return model + " in " + precision
}

// finished adds the result of a task that was measured before, writes the report as write does, and reports whether there is such a
// result. A result file of MTEB's form lacks what known has, and a query's own values.
func (e *evaluation) finished(folder mteb.ResultFolder, task string, place mteb.DataSource, known mteb.Result) (bool, error) {
	if e.c.Bool("fresh") || e.c.IsSet("save-scores") { // a result does not have the scores
		return false, e.checkSource(folder)
	}
	r, err := fromFirst(e.job, func() (*mteb.Result, error) {
		r, ok, err := folder.Finished(task, place)
		if !ok {
			return nil, err
		}
		return &r, err
	})
	if r == nil || err != nil {
		return false, err
	}
	r.Queries, r.Documents, r.Data = known.Queries, known.Documents, known.Data
	e.report.Results = append(e.report.Results, *r)
	if e.job.first() {
		note := ""
		if e.c.IsSet("json") {
			note = "; it lacks the values of each query, which compare reads"
		}
		fmt.Fprintf(os.Stderr, "%s was measured before: its result is in %s%s (--fresh measures again, which a model that has changed needs)\n", task, folder.Dir, note)
		err = e.writeReport()
	}
	return true, e.job.agree(err)
}

// checkSource returns an error if the results in the folder are another model's: what is measured would be written beside them.
func (e *evaluation) checkSource(folder mteb.ResultFolder) error {
	var err error
	if e.job.first() {
		err = folder.CheckSource()
	}
	return e.job.agree(err)
}

// write writes a task's result, and all results so far to the files that the flags name.
func (e *evaluation) write(folder mteb.ResultFolder, r mteb.Result, place mteb.DataSource) error {
	if folder.Dir != "" {
		if err := folder.Write(r, place); err != nil {
			return err
		}
	}
	if path := e.c.String("save-scores"); path != "" {
		if err := jsonl.Write(path, e.saved); err != nil {
			return err
		}
	}
	return e.writeReport()
}

// writeReport writes all results so far to the file of --json.
func (e *evaluation) writeReport() error {
	if path := e.c.String("json"); path != "" {
		return e.report.Write(path)
	}
	return nil
}

// show prints the results.
func (e *evaluation) show() error {
	if len(e.report.Results) == 0 || !e.job.first() {
		return nil
	}
	return eval.WriteReport(os.Stdout, e.c.String("format"), e.report)
}

// noteSamples tells the user how many samples were left out, and how many depend on the order of equal scores.
func noteSamples(t mteb.Task, ties int) {
	if t.Dropped > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d rows without positives or negatives were left out, as MTEB does\n", t.Name, t.Dropped)
	}
	if ties > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d queries have a positive and a negative of equal score\n", t.Name, ties)
	}
}
