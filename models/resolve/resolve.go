// Package resolve finds what a reference names: a folder or file on disk, or one on the hub, which it fetches into the cache.
//
//	r := resolve.Resolver{Note: func(line string) { fmt.Fprintln(os.Stderr, line) }}
//	dir, err := r.Model(ctx, "BAAI/bge-base-zh-v1.5") // or a folder
//	path, err := r.Data(ctx, "org/name/train.jsonl")  // or a file; .gz and .parquet are unpacked
//
// It prints nothing: a Resolver tells its caller what happens.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/internal/unpack"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/runtime"
)

// Remote says whether a reference is to be fetched: no such path is on disk, and it has the form of a hub's id. A path that
// cannot be looked at is no reason to fetch another thing of its name.
func Remote(ref string) bool {
	if _, err := os.Stat(ref); !errors.Is(err, fs.ErrNotExist) || atomicdir.PreviousPath(ref) != "" {
		return false
	}
	owner, rest, ok := strings.Cut(ref, "/")
	name, _, _ := strings.Cut(rest, "/")
	return ok && hub.IsID(owner+"/"+name)
}

// Resolver finds what references name, and tells what it does. The zero value is silent.
type Resolver struct {
	// Note hears what the user should know, one line each: a wait for another process, a copy that is taken from the cache. It
	// may be nil.
	Note func(line string)
	// Progress hears what is fetched. It may be nil.
	Progress Progress
}

// Progress hears how far a download is.
type Progress interface {
	// Fetching says how many bytes of a file have arrived, out of how many.
	Fetching(file string, done, total int64)
	// Done says that nothing more is fetched, because all is there or because of an error.
	Done()
}

func (r Resolver) note(format string, args ...any) {
	if r.Note != nil {
		r.Note(fmt.Sprintf(format, args...))
	}
}

// waiting gives what hears for whom a lock waits.
func (r Resolver) waiting(what string) func(filelock.Holder) {
	return func(h filelock.Holder) { r.note("waiting for %v: %s", h, what) }
}

// Model gives the folder of a model.
func (r Resolver) Model(ctx context.Context, ref string) (string, error) {
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
		return ref, nil
	}
	c, done, err := r.client()
	if err != nil {
		return "", err
	}
	defer done()
	return c.Model(ctx, ref, modelFiles)
}

// Data gives the path of a file of rows as JSON lines.
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

// Unpacked gives the path of a file's rows as JSON lines: its own, or that of what a .gz or .parquet file unpacks to.
func (r Resolver) Unpacked(ctx context.Context, file string) (string, error) {
	// A plain file needs no cache folder.
	cache, err := runtime.InHome("unpacked")
	if err != nil && unpack.IsPacked(file) {
		return "", err
	}
	return unpack.File(ctx, file, cache, r.waiting("unpacking "+file))
}

// Dataset gives the folder of a hub's data set at a revision: its files of rows.
func (r Resolver) Dataset(ctx context.Context, id, revision string) (string, error) {
	c, done, err := r.client()
	if err != nil {
		return "", err
	}
	defer done()
	return c.Dataset(ctx, id, revision, func(files []hub.File) []hub.File {
		var out []hub.File
		for _, f := range files {
			if strings.HasSuffix(f.Name, ".parquet") || strings.HasSuffix(f.Name, ".jsonl") || strings.HasSuffix(f.Name, ".jsonl.gz") {
				out = append(out, f)
			}
		}
		return out
	})
}

// client makes a hub client that tells what it does. done is called when nothing more is fetched.
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

// modelFiles picks the files of a model that this project reads: configs, tokenizers and one form of the weights.
func modelFiles(files []hub.File) []hub.File {
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f hub.File) bool { return f.Name == name })
	}
	var out []hub.File
	for _, f := range files {
		dir, base := path.Split(f.Name)
		safe := has(dir+hf.SafetensorsFile) || has(dir+hf.SafetensorsIndex)
		var keep bool
		switch {
		case strings.Count(f.Name, "/") > 1 || strings.HasPrefix(dir, "onnx/") || strings.HasPrefix(dir, "openvino/"):
		case strings.HasSuffix(base, ".safetensors"):
			keep = true
		case strings.HasPrefix(base, "pytorch_model") && strings.HasSuffix(base, ".bin"), base == hf.TorchIndex:
			keep = !safe
		default:
			keep = strings.HasSuffix(base, ".json") || base == "vocab.txt" || strings.HasPrefix(base, "colbert_linear.")
		}
		if keep {
			out = append(out, f)
		}
	}
	return out
}
