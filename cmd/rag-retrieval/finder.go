package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/filelock"
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

// openFinder opens what finds documents: the model, or where it is "" a run file or BM25.
func (e *retrievalEvaluation) openFinder(model string) error {
	c := e.c
	bm25, given := c.String("kind") == kindBM25, 0
	for _, is := range []bool{model != "", c.IsSet("run"), bm25} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usagef("--retrieval wants one of --model, --run and --kind bm25")
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
	m, err := e.job.open(c, model, o)
	if err != nil {
		return err
	}
	e.finder.model, e.model = m, m.Info()
	e.describeModel(model)
	if e.model.Kind == modelcard.Reranker {
		return usagef("%s is a reranker, which cannot search a corpus: give it to --rerank, on top of another --model, of --run or of --kind bm25", model)
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
			return nil, nil, err
		}
	}
	bars := stageBars{name: t.Name}
	run, err = s.Search(e.c.Context, t, mteb.MostHits, bars.show)
	bars.done()
	if err := e.job.agree(err); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", t.Name, err), release(false))
	}
	return run, release, nil
}

// searcher makes the search of a model.
func (e *retrievalEvaluation) searcher(t mteb.RetrievalTask) (s mteb.Searcher, release func(finished bool) error, err error) {
	embedder, err := e.finder.model.Embedder()
	if err != nil {
		return nil, nil, err
	}
	o, err := e.job.shareHost(e.c, scoringOptions(e.c))
	if err != nil {
		return nil, nil, err
	}
	ranks := dist.NewDealer(e.job)
	if colbert, ok := embedder.(retriever.MultiVector); ok {
		dir, release, err := e.keep(t, t.Hash(), keptHits) // what was found depends on the queries too
		warn := func(err error) { fmt.Fprintf(os.Stderr, "%s: a stop would lose what was found: %v\n", t.Name, err) }
		return retrieval.MaxSim{Embedder: colbert, State: filepath.Join(dir, "maxsim"), Warn: warn, Ranks: ranks}, release, err
	}
	dir, release, err := e.keep(t, t.Corpus.Hash(), keptDocuments)
	return retrieval.Dense{
		Embedder: embedder, Fingerprint: e.finder.fingerprint, Dir: dir, Ranks: ranks,
		Engine: runtime.Options{Provider: e.model.Provider, DeviceID: o.DeviceID, Threads: o.Threads},
	}, release, err
}

// keep returns a folder in which a search keeps what it computes, the same on all ranks. If a search is stopped, the next one of
// the same model and hash finds the folder again; what says what is in it then. release frees it: finished says that nothing in it is
// needed any more.
func (e *retrievalEvaluation) keep(t mteb.RetrievalTask, hash, what string) (dir string, release func(finished bool) error, err error) {
	release = func(bool) error { return nil }
	folder, err := fromFirst(e.job, func() (keptFolder, error) {
		folder, free, err := keepFolder("retrieval", fmt.Sprintf("%.24s-%.24s", e.finder.fingerprint, hash), t.Name, e.c.Bool("fresh"))
		if err == nil {
			release = free
		}
		return folder, err
	})
	if folder.Lasts {
		e.kept = what
	}
	return folder.Dir, release, err
}

// keptFolder is a folder in which a command keeps what it computes.
type keptFolder struct {
	Dir   string
	Lasts bool // the next call finds it
}

// keepFolder returns a folder in a room of the cache, in which a command keeps what it computes for a while; key stands for all that
// this depends on, and name is what messages call it. If the command is stopped, the next one of the same key finds the folder again,
// unless it wants a fresh one. release frees it: finished says that nothing in it is needed any more.
func keepFolder(room, key, name string, fresh bool) (folder keptFolder, release func(finished bool) error, err error) {
	dir, err := runtime.InHome(room, key)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(dir), 0o755)
	}
	var lock *filelock.Lock
	if err == nil {
		lock, err = filelock.Try(dir + ".lock")
	}
	if errors.Is(err, filelock.ErrNoLocks) {
		err = nil
	}
	if held := (*filelock.Held)(nil); errors.As(err, &held) {
		err = fmt.Errorf("another call for the same has its vectors in the cache: %v", held.Holder)
	}
	if err != nil { // then in a folder that nobody finds again
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what is computed: %v\n", name, err)
		dir, err = os.MkdirTemp("", "rag-retrieval-*")
		return keptFolder{Dir: dir}, func(bool) error { return os.RemoveAll(dir) }, err
	}
	if fresh {
		err = os.RemoveAll(dir)
	} else if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) > 0 { // the pattern is well-formed
		fmt.Fprintf(os.Stderr, "%s: going on where an earlier call was stopped; --fresh begins again\n", name)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return keptFolder{}, nil, errors.Join(err, lock.Close())
	}
	return keptFolder{dir, true}, func(finished bool) (err error) {
		if finished {
			err = os.RemoveAll(dir)
		}
		return errors.Join(err, lock.Close())
	}, nil
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
		b.bar.Start(done) // a stopped evaluation may have done some before
	}
	b.bar.Set(done, "")
}

func (b *stageBars) done() {
	if b.bar != nil {
		b.bar.Done()
		b.bar, b.stage = nil, ""
	}
}
