package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/mteb"
)

// pendingRetrieval is a retrieval task that is to be measured.
type pendingRetrieval struct {
	name  string
	place mteb.DataSource // Revision is empty for local data: their hash stands for it
	known *mteb.KnownRetrievalTask
	load  func(ctx context.Context) (mteb.RetrievalTask, error)
}

// pendingRetrievals lists what --retrieval names, in its order, and checks what can be checked at once.
func pendingRetrievals(c *cli.Context) ([]pendingRetrieval, error) {
	var out []pendingRetrieval
	for _, name := range c.StringSlice("retrieval") {
		k, err := mteb.FindRetrievalTask(name)
		if err != nil {
			if _, statErr := os.Stat(name); statErr != nil && !resolve.Remote(name) {
				return nil, usagef("--retrieval: no folder %s, no data set of the hub, and %v", name, err)
			}
			out = append(out, ownRetrieval(name, mteb.RetrievalOptions{Split: c.String("split")}))
			continue
		}
		p, err := knownRetrieval(c, k)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// ownRetrieval is a folder of the user's, or a data set of the hub.
func ownRetrieval(name string, o mteb.RetrievalOptions) pendingRetrieval {
	return pendingRetrieval{
		name: name, place: mteb.DataSource{Split: orText(o.Split, mteb.DefaultSplit)},
		load: func(ctx context.Context) (mteb.RetrievalTask, error) {
			if !resolve.Remote(name) {
				return readRetrieval(ctx, name, o)
			}
			dir, err := resolver().Dataset(ctx, name, hub.MainBranch)
			if err != nil {
				return mteb.RetrievalTask{}, err
			}
			t, err := readRetrieval(ctx, dir, o)
			t.Name = filepath.Base(name) // the folder in the cache is named after a commit
			return t, err
		},
	}
}

// knownRetrieval is one of MTEB's retrieval tasks, from --data-dir or the hub.
func knownRetrieval(c *cli.Context, k mteb.KnownRetrievalTask) (pendingRetrieval, error) {
	o := mteb.RetrievalOptions{Split: orText(c.String("split"), k.Split), AllowUnknown: true}
	p := pendingRetrieval{name: k.Name, known: &k, place: mteb.DataSource{Revision: k.Source.Revision, Split: o.Split, Languages: k.Languages}}
	p.load = func(ctx context.Context) (mteb.RetrievalTask, error) {
		dir, err := resolver().Dataset(ctx, k.Source.ID, k.Source.Revision)
		if err != nil {
			return mteb.RetrievalTask{}, err
		}
		return readRetrieval(ctx, dir, o)
	}
	if dir := c.String("data-dir"); dir != "" {
		path := filepath.Join(dir, k.Name)
		if _, err := os.Stat(path); err != nil {
			return p, fmt.Errorf("%s has no data of %s: want a folder %[2]s", dir, k.Name)
		}
		p.place.Revision = ""
		p.load = func(ctx context.Context) (mteb.RetrievalTask, error) { return readRetrieval(ctx, path, o) }
	}
	return p, nil
}

func readRetrieval(ctx context.Context, dir string, o mteb.RetrievalOptions) (mteb.RetrievalTask, error) {
	t, err := mteb.ReadRetrieval(dir, o, func(file string) (string, error) { return resolver().Unpacked(ctx, file) })
	return t, namingSplit(err)
}

// load reads a task's data, the same on all ranks.
func (e *retrievalEvaluation) load(p pendingRetrieval) (t mteb.RetrievalTask, err error) {
	err = e.job.inStep(func() error {
		return e.job.inTurn(func() (err error) {
			t, err = p.load(e.c.Context)
			return err
		})
	})
	if err != nil {
		return t, errors.Join(err, t.Close())
	}
	if k := p.known; k != nil {
		t.Name, t.IgnoreIdenticalIDs = k.Name, k.IgnoreIdenticalIDs
		if k.Queries != len(t.Queries) || k.Documents != t.Corpus.Len() {
			fmt.Fprintf(os.Stderr, "%s: %d queries and %d documents, MTEB's own data have %d and %d\n", t.Name, len(t.Queries), t.Corpus.Len(), k.Queries, k.Documents)
		}
	}
	if e.job.Size() == 1 {
		return t, nil
	}
	if err := e.job.agree(e.job.compare("its data are other ones", map[string]string{p.name: t.Hash()})); err != nil {
		return t, errors.Join(err, t.Close())
	}
	return t, nil
}
