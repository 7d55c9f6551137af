package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist"
)

// retrievalFlags are eval's flags for retrieval tasks.
func retrievalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "retrieval", Usage: "retrieval task: a folder or data set of the hub with corpus, queries and qrels, or the name of one of MTEB's; may be given several times"},
		&cli.StringFlag{Name: "run", Usage: "with --retrieval: measure this run file in TREC's form instead of a model"},
		&cli.StringFlag{Name: "rerank", Usage: "with --retrieval: a model, reranker or other, that scores the best documents again"},
		&cli.IntFlag{Name: "top-k", Usage: "with --rerank: how many of each query's documents", Value: 100},
		&cli.StringFlag{Name: "save-run", Usage: "with --retrieval: write the documents that were found to this run file in TREC's form"},
	}
}

// retrievalEvaluation is a run of eval --retrieval.
type retrievalEvaluation struct {
	evaluation        // of its source, only what is for models in general is used
	finder     finder // what finds documents
	kept       string // what is kept of a search that is interrupted; empty: nothing
	reranker   *evaluation
	system     string // the name of both in files
}

// checkRetrieval refuses flags that do not go with --retrieval, and the other way round.
func checkRetrieval(c *cli.Context) error {
	if !c.IsSet("retrieval") {
		for _, flag := range []string{"run", "rerank", "top-k", "save-run"} {
			if c.IsSet(flag) {
				return usagef("--%s goes with --retrieval", flag)
			}
		}
		return nil
	}
	for flag, instead := range map[string]string{
		"data": "", "task": "", "suite": "", "int8-check": "", "scores": "; for scores of another program give a run file to --run", "save-scores": "; --save-run writes them",
	} {
		if c.IsSet(flag) {
			return usagef("--%s is for reranking tasks, it does not go with --retrieval%s", flag, instead)
		}
	}
	switch n := len(c.StringSlice("retrieval")); {
	case c.IsSet("rule") && c.String("rule") != string(mteb.Rule2):
		return usagef("--rule %s is for reranking tasks: retrieval is measured by the rule of MTEB 2.x", c.String("rule"))
	case n > 1 && (c.IsSet("run") || c.IsSet("save-run")):
		return usagef("--run and --save-run go with one --retrieval")
	case c.IsSet("top-k") && !c.IsSet("rerank"):
		return usagef("--top-k goes with --rerank")
	case c.Int("top-k") < 1 || c.Int("top-k") > mteb.MostHits:
		return usagef("--top-k is %d, want 1 to %d", c.Int("top-k"), mteb.MostHits)
	}
	return nil
}

func evaluateRetrieval(c *cli.Context, j job) (err error) {
	alone := c.IsSet("run") || c.String("kind") == kindBM25
	if alone && !c.IsSet("rerank") { // seconds of work, which rank 0 does
		if !j.first() {
			return nil
		}
		j = job{dist.Alone{}}
	}
	tasks, err := pendingRetrievals(c)
	if err := j.agree(err); err != nil {
		return err
	}
	refs := c.StringSlice("model")
	if len(refs) < 2 {
		report, err := retrieve(c, j, strings.Join(refs, ""), tasks, false)
		return errors.Join(err, showRetrieval(c, j, report)) // what was measured before an error is kept
	}
	for _, flag := range []string{"json", "save-run"} {
		if c.IsSet(flag) {
			return usagef("--%s goes with one --model", flag)
		}
	}
	if c.String("format") == "json" {
		return usagef("--format json goes with one --model")
	}
	var reports []mteb.Report
	for _, ref := range refs {
		report, err := retrieve(c, j, ref, tasks, len(reports) > 0)
		reports = append(reports, report)
		if err != nil {
			return errors.Join(err, showRetrieval(c, j, reports...))
		}
	}
	return showRetrieval(c, j, reports...)
}

// retrieve measures one model on all tasks, or what the flags name besides. The report has what was measured, also with an error.
// others says that models before it were measured.
func retrieve(c *cli.Context, j job, model string, tasks []pendingRetrieval, others bool) (_ mteb.Report, err error) {
	e := &retrievalEvaluation{evaluation: evaluation{c: c, job: j, rule: mteb.Rule2, others: others}}
	defer func() { err = j.agree(errors.Join(err, e.close())) }()
	if err := e.open(model); err != nil {
		return e.report, err
	}
	for _, t := range tasks {
		if err := e.measure(t); err != nil {
			return e.report, err
		}
	}
	return e.report, nil
}

// showRetrieval prints the reports that have results.
func showRetrieval(c *cli.Context, j job, reports ...mteb.Report) error {
	reports = slices.DeleteFunc(reports, func(r mteb.Report) bool { return len(r.Results) == 0 })
	switch {
	case !j.first() || len(reports) == 0:
		return nil
	case len(reports) == 1:
		return eval.WriteReport(os.Stdout, c.String("format"), reports[0])
	}
	return eval.WriteRetrieval(os.Stdout, c.String("format"), reports)
}

// measure measures one task and writes the results so far. All ranks of a job do it in step and have the same results; rank 0
// writes.
func (e *retrievalEvaluation) measure(p pendingRetrieval) (err error) {
	e.kept = ""
	defer func() { err = onInterrupt(err, e.next(e.kept)) }()
	folder := mteb.ResultFolder{Dir: e.c.String("mteb-dir"), Model: e.system, Source: sourceOf(filepath.Clean(e.system), e.report.Precision), Rule: e.rule, Retrieval: true}
	if e.reranker != nil {
		folder.Source = sourceOf(e.report.Model, e.report.Precision) // with both models' folders
	}
	if folder.Dir != "" && p.place.Revision != "" { // known without loading
		if done, err := e.wasMeasured(folder, p.name, p.place, mteb.Result{Queries: p.known.Queries, Documents: p.known.Documents}); done || err != nil {
			return err
		}
	}
	t, err := e.load(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if folder.Dir != "" && p.place.Revision == "" {
		p.place.Revision = t.Hash()
		if done, err := e.wasMeasured(folder, t.Name, p.place, mteb.Result{Queries: len(t.Queries), Documents: t.Corpus.Len(), Data: t.Hash()}); done || err != nil {
			return err
		}
	}
	begun := time.Now()
	run, release, err := e.find(t)
	if err != nil {
		return err
	}
	finished := false
	defer func() { err = e.job.agree(errors.Join(err, release(finished))) }()
	if e.reranker != nil {
		if run, err = e.rerank(t, run); err != nil {
			return err
		}
	}
	r, m, err := eval.MeasureRetrieval(t, run, begun)
	if err := e.job.agree(err); err != nil {
		return err
	}
	e.report.Results = append(e.report.Results, r)
	if e.job.first() {
		noteRetrieval(t, m)
		err = e.writeRun(t, run)
		if err == nil {
			err = e.write(folder, r, p.place)
		}
	}
	err = e.job.agree(err)
	finished = err == nil // until then what was computed is all there is
	return err
}

// wasMeasured is finished, but not where the result cannot be used: what a run file has may be something else now, and a result does
// not say what was found.
func (e *retrievalEvaluation) wasMeasured(folder mteb.ResultFolder, task string, place mteb.DataSource, known mteb.Result) (bool, error) {
	if e.c.IsSet("run") || e.c.IsSet("save-run") {
		return false, e.checkSource(folder)
	}
	return e.finished(folder, task, place, known)
}

// rerank has the second model score the best documents of a run.
func (e *retrievalEvaluation) rerank(t mteb.RetrievalTask, run mteb.Run) (_ mteb.Run, err error) {
	candidates, err := eval.NewCandidates(t, run, e.c.Int("top-k"))
	if err := e.job.agree(err); err != nil {
		return nil, err
	}
	if len(candidates.Task.Samples) == 0 {
		return run, nil // nothing was found
	}
	j, err := e.reranker.journal(candidates.Task)
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() { e.kept = keptIn(j) }()
	defer func() { err = e.job.agree(errors.Join(err, j.Close(finished))) }()
	bar := progress.New(os.Stderr, t.Name+": reranking", 0, 0)
	defer bar.Done()
	out, err := candidates.Rerank(e.c.Context, e.reranker.source.scorerOf(t.Name), j, func(done, total int) {
		bar.SetTotal(total)
		bar.Set(done, "texts")
	})
	finished = err == nil
	return out, err
}

// writeRun writes what was found to the file of --save-run.
func (e *retrievalEvaluation) writeRun(t mteb.RetrievalTask, run mteb.Run) error {
	if path := e.c.String("save-run"); path != "" {
		return mteb.WriteRun(path, t, run, strings.Join(strings.Fields(e.system), "-"))
	}
	return nil
}

// noteRetrieval tells the user what the numbers do not show.
func noteRetrieval(t mteb.RetrievalTask, m mteb.RetrievalMetrics) {
	if u := t.Unknown; u.Queries+u.Documents > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d rows of qrels name a query and %d a document that the data lack; they count as in MTEB. The first: %s\n", t.Name, u.Queries, u.Documents, u.First)
	}
	if m.Empty > 0 {
		fmt.Fprintf(os.Stderr, "%s: nothing was found for %d queries; they count with 0\n", t.Name, m.Empty)
	}
	if m.Ties > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d queries have a relevant document and another one of equal score\n", t.Name, m.Ties)
	}
}

// open opens what finds documents, a model unless it is "", and the second model.
func (e *retrievalEvaluation) open(model string) (err error) {
	if err := e.openFinder(model); err != nil {
		return err
	}
	e.system = e.report.Model
	ref := e.c.String("rerank")
	if ref == "" {
		return nil
	}
	o := scoringOptions(e.c)
	if o.Kind = ""; e.finder.model != nil { // --kind and prompts are those of --model
		o.QueryPrompt, o.PassagePrompt = nil, nil
	}
	e.reranker = &evaluation{c: e.c, job: e.job}
	if err := e.reranker.openModel(ref, o); err != nil {
		return err
	}
	e.system = fmt.Sprintf("%s+%s@%d", shortName(e.report.Model), shortName(ref), e.c.Int("top-k"))
	e.report.Model = fmt.Sprintf("%s + %s", e.report.Model, ref)
	e.report.Kind += "+" + e.reranker.report.Kind
	if e.finder.model == nil { // a model that finds computes and cuts texts by the same flags
		e.report.Precision, e.report.Lengths = e.reranker.report.Precision, e.reranker.report.Lengths
	}
	return nil
}

// shortName is a model's name in the name of two.
func shortName(ref string) string {
	if resolve.Remote(ref) {
		_, ref, _ = strings.Cut(ref, "/")
	}
	return filepath.Base(ref)
}

// close closes the models.
func (e *retrievalEvaluation) close() (err error) {
	if e.finder.model != nil {
		err = e.finder.model.Close()
	}
	if e.reranker != nil && e.reranker.source.close != nil {
		err = errors.Join(err, e.reranker.source.close())
	}
	return err
}
