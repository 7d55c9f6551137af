package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/eval"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/stamp"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/onnxfile"
	"rag-retrieval-go/mteb"
	"rag-retrieval-go/ortrain/onnx"
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
	files, err := modelFiles(x.ref, s.dir)
	if err != nil {
		return "", err
	}
	for _, path := range files {
		now, err := stamp.Of(path) // of what a link points to
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, path, now)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// modelFiles lists the files that a model's scores depend on. An ONNX file may stand in a working folder, with everything
// that is there.
func modelFiles(ref, dir string) ([]string, error) {
	files, err := hf.Files(dir)
	if err != nil || !onnxfile.Is(ref) {
		return files, err
	}
	external, err := onnx.ExternalFiles(ref)
	return append(append(files, ref), external...), err
}

// journal opens the scores that an earlier evaluation of the same model on the same data left, or begins them; nil where
// scores are not kept.
func (e *evaluation) journal(t mteb.Task) *eval.Journal {
	if e.source.identity == "" {
		return nil
	}
	name := fmt.Sprintf("%.24s-%.24s.jsonl", e.source.identity, t.Hash())
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
