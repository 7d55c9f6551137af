// Package resolve finds what a reference names: a folder or file on disk, or one on the hub, which it fetches into the cache.
//
//	dir, err := resolve.Model(ctx, "BAAI/bge-base-zh-v1.5")             // or a folder
//	path, err := resolve.Data(ctx, "org/name/train.jsonl")              // or a file; .gz and .parquet are unpacked
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
	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/internal/progress"
	"rag-retrieval-go/internal/unpack"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/runtime"
)

// Remote says whether a reference is to be fetched: no such path is on disk, and it has the form of a hub's id. A path that
// cannot be looked at is no reason to fetch another thing of its name.
func Remote(ref string) bool {
	if _, err := os.Stat(ref); !errors.Is(err, fs.ErrNotExist) || atomicdir.Former(ref) != "" {
		return false
	}
	owner, rest, ok := strings.Cut(ref, "/")
	name, _, _ := strings.Cut(rest, "/")
	return ok && hub.IsID(owner+"/"+name)
}

// Model gives the folder of a model.
func Model(ctx context.Context, ref string) (string, error) {
	if former := atomicdir.Former(ref); former != "" {
		fmt.Fprintf(os.Stderr, "%s is taken: a run was stopped while it replaced %s; train --resume puts it back\n", former, ref)
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
	c, done, err := client()
	if err != nil {
		return "", err
	}
	defer done()
	return c.Model(ctx, ref, wanted)
}

// Data gives the path of a file of rows as JSON lines.
func Data(ctx context.Context, ref string) (string, error) {
	local := ref
	if Remote(ref) {
		owner, rest, _ := strings.Cut(ref, "/")
		name, file, ok := strings.Cut(rest, "/")
		if !ok {
			return "", fmt.Errorf("%s: no such file; a file of a hub's data set is org/name/file.jsonl", ref)
		}
		c, done, err := client()
		if err != nil {
			return "", err
		}
		defer done()
		if local, err = c.DataFile(ctx, owner+"/"+name, file); err != nil {
			return "", err
		}
	}
	return Unpacked(ctx, local)
}

// Unpacked gives the path of a file's rows as JSON lines: its own, or that of what a .gz or .parquet file unpacks to.
func Unpacked(ctx context.Context, file string) (string, error) {
	// A plain file needs no cache folder.
	cache, err := runtime.InHome("unpacked")
	if err != nil && unpack.Packed(file) {
		return "", err
	}
	return unpack.File(ctx, file, cache)
}

// Dataset gives the folder of a hub's data set at a revision: its files of rows.
func Dataset(ctx context.Context, id, revision string) (string, error) {
	c, done, err := client()
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

// client makes a hub client that shows its progress.
func client() (c *hub.Client, done func(), err error) {
	cache, err := runtime.InHome("hub")
	if err != nil {
		return nil, nil, err
	}
	c = hub.New(cache)
	c.Offline = func(id string, err error) {
		fmt.Fprintf(os.Stderr, "%s is taken from the cache: %v\n", id, err)
	}
	var bar *progress.Bar
	file := ""
	end := func() {
		if bar != nil {
			bar.Done()
		}
	}
	c.Progress = func(name string, n, total int64) {
		if total < 1<<20 {
			return
		}
		if name != file {
			end()
			bar, file = progress.New(os.Stderr, "fetching "+path.Base(name), int(total>>10), 0), name
		}
		bar.Set(int(n>>10), "KiB")
	}
	return c, end, nil
}

// wanted are the files of a model that this project reads: configs, tokenizers and one form of the weights.
func wanted(files []hub.File) []hub.File {
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
