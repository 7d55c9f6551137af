package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/models/retrieval"
	"rag-retrieval-go/models/retriever"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// finder finds documents for the queries of a retrieval task: by a model, by BM25, or in a run file.
type finder struct {
	model       *retriever.Model // nil: BM25, or a run file
	fingerprint string           // of the model
	run         string           // a run file
}

// openFinder opens what the flags name: one of --model, --run and --kind bm25.
func (e *retrievalEvaluation) openFinder() error {
	c := e.c
	models, bm25 := c.StringSlice("model"), c.String("kind") == kindBM25
	given := len(models)
	for _, is := range []bool{c.IsSet("run"), bm25} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usagef("--retrieval wants one of --model, --run and --kind bm25, once")
	}
	switch {
	case bm25:
		e.report.Model, e.report.Kind = kindBM25, kindBM25
		return nil
	case c.IsSet("run"):
		e.finder.run = c.String("run")
		e.report.Model, e.report.Kind = filepath.Base(e.finder.run), "run"
		return nil
	}
	o := scoringOptions(c)
	if o.LongDocs == retriever.MaxWindow && !c.IsSet("rerank") {
		return usagef("--long-docs %s is for reranking: a document in a corpus has one vector", retriever.MaxWindow)
	}
	m, err := e.job.open(c, models[0], o)
	if err != nil {
		return err
	}
	e.finder.model, e.model = m, m.Info()
	e.report.Model, e.report.Kind = models[0], string(e.model.Kind)
	if e.model.Kind == modelcard.Reranker {
		return usagef("%s is a reranker, which cannot search a corpus: give it to --rerank, on top of another --model, of --run or of --kind bm25", models[0])
	}
	e.finder.fingerprint, err = fromFirst(e.job, func() (string, error) { return m.Fingerprint(version) })
	return err
}

// find finds documents for a task's queries. release frees what was kept on disk for a run that goes on: finished says that the
// task's result is written.
func (e *retrievalEvaluation) find(t mteb.RetrievalTask) (run mteb.Run, release func(finished bool) error, err error) {
	release = func(bool) error { return nil }
	if e.finder.run != "" {
		run, err = mteb.ReadRun(e.finder.run, t)
		return run, release, e.job.agree(err)
	}
	s := mteb.Searcher(retrieval.BM25{})
	if e.finder.model != nil {
		if s, release, err = e.searcher(t); err != nil {
			return nil, release, err
		}
	}
	bars := stageBars{name: t.Name}
	run, err = s.Search(e.c.Context, t, mteb.MostHits, bars.show)
	bars.done()
	if err := e.job.agree(err); err != nil {
		return nil, release, errors.Join(fmt.Errorf("%s: %w", t.Name, err), release(false))
	}
	return run, release, nil
}

// searcher makes the search of a model.
func (e *retrievalEvaluation) searcher(t mteb.RetrievalTask) (s mteb.Searcher, release func(finished bool) error, err error) {
	embedder, err := e.finder.model.Embedder()
	if err != nil {
		return nil, nil, err
	}
	if e.model.Kind == modelcard.ColBERT {
		name := fmt.Sprintf("%.24s-%.24s.maxsim", e.finder.fingerprint, t.Hash())
		state, err := runtime.InHome("retrieval", name)
		warn := func(err error) { fmt.Fprintf(os.Stderr, "%s: a stop would lose what was found: %v\n", t.Name, err) }
		if err == nil {
			err = os.MkdirAll(filepath.Dir(state), 0o755)
		}
		if err != nil {
			warn(err)
			state = ""
		}
		if e.c.Bool("fresh") && state != "" && e.job.first() {
			_ = os.Remove(state)
		}
		return retrieval.MaxSim{Embedder: embedder, State: state, Warn: warn, Ranks: dist.NewDealer(e.job)}, func(bool) error { return nil }, nil
	}
	return retrieval.Dense{Embedder: embedder}, func(bool) error { return nil }, nil
}

// stageBars shows a bar for each stage of a search.
type stageBars struct {
	name, stage string
	bar         *progress.Bar
}

func (b *stageBars) show(stage string, done, total int) {
	if stage != b.stage {
		b.done()
		b.bar, b.stage = progress.New(os.Stderr, b.name+": "+stage, total, 0), stage
	}
	b.bar.Set(done, "")
}

func (b *stageBars) done() {
	if b.bar != nil {
		b.bar.Done()
	}
}
