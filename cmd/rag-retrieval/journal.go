package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/runtime"
)

// identity stands for everything that a model's scores depend on besides the data: its files, as they are now, and the
// flags that change scores.
func identity(c *cli.Context, x scored, s *scorer) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, version, x.ref, s.kind, x.int8)
	for _, name := range []string{"query-max-len", "passage-max-len", "max-len", "long-docs", "padding-competes", "provider"} {
		fmt.Fprintln(h, name, c.Value(name))
	}
	for _, p := range []*string{x.queryPrompt, x.passagePrompt} {
		if p != nil {
			fmt.Fprintf(h, "%q", *p)
		}
		fmt.Fprintln(h)
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := os.Stat(path) // of what a link points to
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, st.Size(), st.ModTime().UnixNano())
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// journal opens the scores that an earlier evaluation of the same model on the same data left, or begins them; nil where
// scores are not kept.
func (e *evaluation) journal(t mteb.Task) (*eval.Journal, error) {
	if e.source.identity == "" {
		return nil, nil
	}
	name := fmt.Sprintf("%.24s-%.24s.jsonl", e.source.identity, t.Hash())
	path, err := runtime.InHome("scores", name)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what was scored: %v\n", t.Name, err)
		return nil, nil
	}
	j, err := eval.OpenJournal(path, t.Samples, e.c.Bool("fresh"))
	var held *filelock.Held
	if errors.As(err, &held) {
		fmt.Fprintf(os.Stderr, "%s: another evaluation of the same keeps its scores already: %v; a stop of this one would lose what it scored\n", t.Name, held.Holder)
		return nil, nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what was scored: %v\n", t.Name, err)
		return nil, nil
	}
	j.Warn = func(err error) {
		fmt.Fprintf(os.Stderr, "%s: a stop would lose what is scored from here on: %v\n", t.Name, err)
	}
	if n := len(j.Done()); n > 0 {
		fmt.Fprintf(os.Stderr, "%s: going on after %d of %d queries; --fresh begins again\n", t.Name, n, len(t.Samples))
	}
	return j, nil
}
