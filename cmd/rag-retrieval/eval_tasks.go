package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"rag-retrieval-go/models/resolve"
	"rag-retrieval-go/mteb"
)

// pending is a task that is to be measured.
type pending struct {
	name  string
	place mteb.DataSource // Revision is empty for local data: their hash stands for it
	known *mteb.KnownTask
	load  func(ctx context.Context) (mteb.Task, error)
}

// pendingTasks lists what --data and --task name, in their order, and checks what can be checked at once.
func pendingTasks(c *cli.Context, rule mteb.Rule) ([]pending, error) {
	var out []pending
	for _, path := range c.StringSlice("data") {
		if _, err := os.Stat(path); err != nil && !resolve.Remote(path) {
			return nil, err
		}
		out = append(out, pending{
			name: path, place: mteb.DataSource{Split: orText(c.String("split"), "test")},
			load: func(ctx context.Context) (mteb.Task, error) { return readData(ctx, path, c.String("split")) },
		})
	}
	for _, name := range c.StringSlice("task") {
		k, err := mteb.FindTask(name)
		if err != nil {
			return nil, usagef("--task: %v", err)
		}
		p, err := knownTask(c, k, rule)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, usagef("want --data or --task; see %s --help", c.Command.HelpName)
	}
	return out, nil
}

// knownTask is one of MTEB's tasks, from --data-dir or the hub.
func knownTask(c *cli.Context, k mteb.KnownTask, rule mteb.Rule) (pending, error) {
	source, split := k.Source(rule), orText(c.String("split"), k.Split)
	p := pending{name: k.Name, known: &k, place: mteb.DataSource{Revision: source.Revision, Split: split, Languages: k.Languages}}
	p.load = func(ctx context.Context) (mteb.Task, error) {
		dir, err := resolver().Dataset(ctx, source.ID, source.Revision)
		if err != nil {
			return mteb.Task{}, err
		}
		return readData(ctx, dir, split)
	}
	if dir := c.String("data-dir"); dir != "" {
		path, err := findData(dir, k)
		if err != nil {
			return p, err
		}
		p.place.Revision = ""
		p.load = func(ctx context.Context) (mteb.Task, error) { return readData(ctx, path, split) }
	}
	return p, nil
}

func orText(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// readData reads a file or folder, or a file of a hub's data set.
func readData(ctx context.Context, path, split string) (mteb.Task, error) {
	if resolve.Remote(path) {
		local, err := resolver().Data(ctx, path)
		if err != nil {
			return mteb.Task{}, err
		}
		path = local
	}
	t, err := mteb.Read(path, split, func(file string) (string, error) { return resolver().Unpacked(ctx, file) })
	return t, namingSplit(err)
}

// namingSplit says in an error of a split which flag names one.
func namingSplit(err error) error {
	if several := (*mteb.SplitError)(nil); errors.As(err, &several) {
		return fmt.Errorf("%w; name it with --split", err)
	}
	return err
}

// findData finds a task's data in a folder.
func findData(dir string, k mteb.KnownTask) (string, error) {
	for _, name := range append([]string{k.Name}, k.Aliases...) {
		for _, suffix := range []string{"", ".jsonl", ".jsonl.gz", ".parquet"} {
			path := filepath.Join(dir, name+suffix)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return "", fmt.Errorf("%s has no data of %s: want a folder %[2]s, or %[2]s.jsonl, .jsonl.gz or .parquet", dir, k.Name)
}
