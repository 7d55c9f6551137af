package main

import (
	"errors"
	"fmt"
	"os"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// journal opens the scores that an earlier evaluation of the same model on the same data left, or begins them; nil where
// scores are not kept. Of the ranks of a job, rank 0 keeps it for all: any number of ranks goes on where another one stopped.
func (e *evaluation) journal(t mteb.Task) (j *eval.Journal, err error) {
	if e.job.first() {
		j = e.openJournal(t)
	}
	kept, err := fromFirst(e.job, func() ([][]float32, error) { return j.Scores(), nil })
	switch {
	case err != nil:
		return nil, errors.Join(err, j.Close(false))
	case e.job.first():
		return j, nil
	}
	return eval.JournalCopy(kept), nil
}

func (e *evaluation) openJournal(t mteb.Task) *eval.Journal {
	if e.source.fingerprint == "" {
		return nil
	}
	name := fmt.Sprintf("%.24s-%.24s.jsonl", e.source.fingerprint, t.Hash())
	path, err := runtime.InHome("scores", name)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what was scored: %v\n", t.Name, err)
		return nil
	}
	j, err := eval.OpenJournal(path, t.Samples, e.c.Bool("fresh"))
	var held *filelock.Held
	if errors.As(err, &held) {
		fmt.Fprintf(os.Stderr, "%s: another evaluation of the same keeps its scores already: %v; a stop of this one would lose what it scored\n", t.Name, held.Holder)
		return nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what was scored: %v\n", t.Name, err)
		return nil
	}
	j.Warn = func(err error) {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what is scored from here on: %v\n", t.Name, err)
	}
	if n := len(j.Scores()); n > 0 {
		fmt.Fprintf(os.Stderr, "%s: going on after %d of %d queries; --fresh begins again\n", t.Name, n, len(t.Samples))
	}
	return j
}
