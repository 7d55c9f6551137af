// Package resolve finds the folder or file that a reference names: on disk, or on the hub, from where it is fetched into the cache.
//
//	r := resolve.Resolver{Note: func(line string) { fmt.Fprintln(os.Stderr, line) }}
//	dir, err := r.Model(ctx, "BAAI/bge-base-zh-v1.5") // or a folder
//	path, err := r.Data(ctx, "org/name/train.jsonl")  // or a file; .gz and .parquet are unpacked
//
// The package prints nothing: a Resolver calls functions of its caller.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/internal/unpack"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/runtime"
)

// Remote reports whether a reference has to be fetched: no such path is on disk, and it has the form of a hub id. If the path
// cannot be checked, nothing is fetched in its place.
func Remote(ref string) bool {
	if _, err := os.Stat(ref); !errors.Is(err, fs.ErrNotExist) || atomicdir.PreviousPath(ref) != "" {
		return false
	}
	owner, rest, ok := strings.Cut(ref, "/")
	name, _, _ := strings.Cut(rest, "/")
	return ok && hub.IsID(owner+"/"+name)
}

// Resolver finds what references name. The zero value works silently.
type Resolver struct {
	// Note is called with a line that the user should see: a wait for another process, or a copy from the cache that is used
	// without a connection. It may be nil.
	Note func(line string)
	// Progress is called while files are fetched. It may be nil.
	Progress Progress
}

// Progress shows downloads.
type Progress interface {
	// Fetching reports that done of a file's total bytes have arrived.
	Fetching(file string, done, total int64)
	// Done reports that the download has ended, also after an error.
	Done()
}

func (r Resolver) note(format string, args ...any) {
	if r.Note != nil {
		r.Note(fmt.Sprintf(format, args...))
	}
}

// waiting returns a function for filelock.Wait that notes for which process it waits.
func (r Resolver) waiting(what string) func(filelock.Holder) {
	return func(h filelock.Holder) { r.note("waiting for %v: %s", h, what) }
}

// Model returns the folder of a model. For an adapter (a PEFT folder) that is a folder of links in the cache, which shows the adapter and
// its base model as one.
func (r Resolver) Model(ctx context.Context, ref string) (string, error) {
	dir, err := r.folder(ctx, ref)
	if err != nil {
		return "", err
	}
	return r.withBase(ctx, dir)
}

// folder returns the folder that a reference names.
func (r Resolver) folder(ctx context.Context, ref string) (string, error) {
	if former := atomicdir.PreviousPath(ref); former != "" {
		r.note("%s is taken: a run was stopped while it replaced %s; train --resume puts it back", former, ref)
		return former, nil
	}
	if !Remote(ref) || !hub.IsID(ref) {
		st, err := os.Stat(ref)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("reading the model: %s is no folder, and no hub id (org/name)", ref)
		case err != nil:
			return "", fmt.Errorf("reading the model: %w", err)
		case !st.IsDir():
			return "", fmt.Errorf("reading the model: %s is no folder", ref)
		}
		return ref, checkModel(ref)
	}
	c, done, err := r.client()
	if err != nil {
		return "", err
	}
	defer done()
	return c.Model(ctx, ref, modelFiles)
}

// checkModel returns an error for a folder that has no model but a folder "model" which has one, as the output folder of a training run.
func checkModel(dir string) error {
	inside := filepath.Join(dir, "model")
	for _, name := range []string{"config.json", "modules.json", hf.AdapterConfigFile} {
		if there, err := hf.Exists(filepath.Join(dir, name)); there || err != nil {
			return err
		}
	}
	for _, name := range []string{"config.json", hf.AdapterConfigFile} {
		if there, err := hf.Exists(filepath.Join(inside, name)); err != nil {
			return err
		} else if there {
			return fmt.Errorf("reading the model: %s has no model, but its folder model has: did you mean %s?", dir, inside)
		}
	}
	return nil // who reads the folder says what it lacks
}

// Data returns the path of a data file as JSON lines.
func (r Resolver) Data(ctx context.Context, ref string) (string, error) {
	local := ref
	if Remote(ref) {
		owner, rest, _ := strings.Cut(ref, "/")
		name, file, ok := strings.Cut(rest, "/")
		if !ok {
			return "", fmt.Errorf("%s: no such file; a file of a hub's data set is org/name/file.jsonl", ref)
		}
		c, done, err := r.client()
		if err != nil {
			return "", err
		}
		defer done()
		if local, err = c.DataFile(ctx, owner+"/"+name, file); err != nil {
			return "", err
		}
	}
	return r.Unpacked(ctx, local)
}

// Unpacked returns the path of a file as JSON lines: the file itself, or the file that a .gz or .parquet file is unpacked to.
func (r Resolver) Unpacked(ctx context.Context, file string) (string, error) {
	// A file that is not packed needs no cache folder.
	cache, err := runtime.InHome("unpacked")
	if err != nil && unpack.IsPacked(file) {
		return "", err
	}
	return unpack.File(ctx, file, cache, r.waiting("unpacking "+file))
}

// Dataset returns the folder of a data set from the hub at a revision, with its data files only.
func (r Resolver) Dataset(ctx context.Context, id, revision string) (string, error) {
	c, done, err := r.client()
	if err != nil {
		return "", err
	}
	defer done()
	return c.Dataset(ctx, id, revision, func(files []hub.File) []hub.File {
		var out []hub.File
		for _, f := range files {
			for _, suffix := range []string{".parquet", ".jsonl", ".jsonl.gz", ".tsv"} {
				if strings.HasSuffix(f.Name, suffix) {
					out = append(out, f)
				}
			}
		}
		return out
	})
}

// client makes a hub client that reports to the resolver's functions. The caller calls done when it has fetched everything.
func (r Resolver) client() (c *hub.Client, done func(), err error) {
	cache, err := runtime.InHome("hub")
	if err != nil {
		return nil, nil, err
	}
	c = hub.New(cache)
	c.Offline = func(id string, err error) { r.note("%s is taken from the cache: %v", id, err) }
	c.Waiting = func(id string, h filelock.Holder) { r.waiting("fetching " + id)(h) }
	if r.Progress == nil {
		return c, func() {}, nil
	}
	c.Progress = r.Progress.Fetching
	return c, r.Progress.Done, nil
}

// modelFiles selects the files of a model that this project reads: configs, tokenizers, chat templates and one form of the weights.
func modelFiles(files []hub.File) []hub.File {
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f hub.File) bool { return f.Name == name })
	}
	var out []hub.File
	for _, f := range files {
		dir, base := path.Split(f.Name)
		adapter := has(dir + hf.AdapterFile)
		safe := has(dir+hf.SafetensorsFile) || has(dir+hf.SafetensorsIndex)
		var keep bool
		switch {
		case strings.Count(f.Name, "/") > 1 || strings.HasPrefix(dir, "onnx/") || strings.HasPrefix(dir, "openvino/"):
		case strings.HasSuffix(base, ".safetensors"):
			keep = true
		case strings.HasPrefix(base, "pytorch_model") && strings.HasSuffix(base, ".bin"), base == hf.TorchIndex:
			keep = !safe
		case base == hf.AdapterTorchFile:
			keep = !adapter
		default:
			keep = strings.HasSuffix(base, ".json") || base == "vocab.txt" || base == "chat_template.jinja" || strings.HasPrefix(base, "colbert_linear.")
		}
		if keep {
			out = append(out, f)
		}
	}
	return out
}
