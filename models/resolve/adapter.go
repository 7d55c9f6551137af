package resolve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/internal/filelock"
	"rag-retrieval-go/internal/hub"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/models/modelcard"
	"rag-retrieval-go/ortrain/runtime"
)

// withBase returns a folder that shows an adapter's folder and its base model's as one: links to their files, in the cache. For a model
// without an adapter it returns its folder, dir.
func (r Resolver) withBase(ctx context.Context, dir string) (string, error) {
	if is, err := hf.IsAdapter(dir); err != nil || !is {
		return dir, err
	}
	c, err := hf.ReadAdapterConfig(dir)
	if err != nil {
		return "", err
	}
	if whole, err := isWhole(dir); err != nil {
		return "", err
	} else if whole {
		r.note("%s holds a whole model and an adapter: it is opened with the adapter, as transformers does", dir)
		return dir, nil
	}
	base, err := r.base(ctx, dir, c)
	if err != nil {
		return "", err
	}
	bare, err := isBare(c, base)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if base, err = filepath.Abs(base); err != nil {
		return "", err
	}
	files, err := hf.AdapterFiles(dir, base, bare)
	if err != nil {
		return "", err
	}
	return r.view(ctx, dir, base, files)
}

// isWhole reports whether a folder has a config and weights of its own beside its adapter.
func isWhole(dir string) (bool, error) {
	there, err := hf.Exists(filepath.Join(dir, "config.json"))
	if err != nil || !there {
		return false, err
	}
	return hf.HasWeights(dir)
}

// isBare reports whether an adapter without a description of its own uses its base as an encoder only: the adapter of a reranker, over
// a model of another kind.
func isBare(c hf.AdapterConfig, base string) (bool, error) {
	if c.TaskType != hf.SequenceClassification {
		return false, nil
	}
	kind, err := modelcard.Detect(base)
	return kind != modelcard.Reranker, err
}

// base returns the folder of an adapter's base model. A relative path counts from the working directory, as in PEFT, or else from the
// adapter's folder.
func (r Resolver) base(ctx context.Context, dir string, c hf.AdapterConfig) (string, error) {
	tried := []string{c.Base}
	if !filepath.IsAbs(c.Base) {
		tried = append(tried, filepath.Join(dir, c.Base))
	}
	for _, path := range tried {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("the base model that %s names: %w", c.Path, err)
		}
		if !st.IsDir() {
			return "", fmt.Errorf("the base model that %s names, %s, is no folder", c.Path, path)
		}
		return r.checkBase(path, c)
	}
	if !hub.IsID(c.Base) {
		about := "there is no such folder"
		if len(tried) > 1 {
			about = fmt.Sprintf("there is no such folder, neither from the working directory nor beside the adapter (%s)", tried[1])
		}
		return "", fmt.Errorf("%s is an adapter for the model %s: %s, and it is no hub id (org/name): put the model there, or change base_model_name_or_path in %s",
			dir, c.Base, about, c.Path)
	}
	client, done, err := r.client()
	if err != nil {
		return "", err
	}
	defer done()
	path, err := client.ModelAt(ctx, c.Base, c.Revision, modelFiles)
	if err != nil {
		return "", fmt.Errorf("%s is an adapter for the model %s: %w", dir, c.Base, err)
	}
	return r.checkBase(path, c)
}

// checkBase refuses a base that has an adapter itself: of two adapters one would be lost.
func (r Resolver) checkBase(path string, c hf.AdapterConfig) (string, error) {
	is, err := hf.IsAdapter(path)
	if err == nil && is {
		err = fmt.Errorf("%s names %s as the base model, which has an adapter itself: merge that one into its base first (rag-retrieval merge), and name the merged folder", c.Path, path)
	}
	return path, err
}

// view makes a folder of links to these paths by name. Its name depends on the two folders only. It is replaced as a whole when the names
// of their files change, and follows the files' contents.
func (r Resolver) view(ctx context.Context, dir, base string, files map[string]string) (string, error) {
	sum := sha256.Sum256([]byte(dir + "\x00" + base))
	name := filepath.Base(dir) + "-" + hex.EncodeToString(sum[:8])
	home, err := runtime.InHome("adapters")
	if err == nil {
		var path string
		if path, err = r.link(ctx, home, name, files); err == nil {
			return path, nil
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	// No cache folder, or one that cannot be written to.
	temp, tempErr := ownTemp()
	if tempErr == nil {
		var path string
		if path, tempErr = r.link(ctx, temp, name, files); tempErr == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("a folder of links to %s and its base: %w", dir, errors.Join(err, tempErr))
}

// link makes the folder of links under home, unless it is there already.
func (r Resolver) link(ctx context.Context, home, name string, files map[string]string) (string, error) {
	path := filepath.Join(home, name)
	if isView(path, files) {
		return path, nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", err
	}
	lock, err := filelock.Wait(ctx, path+".lock", r.waiting("opening the adapter "+name))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if isView(path, files) {
		return path, nil
	}
	return path, atomicdir.Write(path, func(tmp string) error {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := os.Symlink(files[name], filepath.Join(tmp, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// isView reports whether a folder consists of these links.
func isView(path string, files map[string]string) bool {
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != len(files) {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(path, e.Name())); err != nil || to != files[e.Name()] {
			return false
		}
	}
	return true
}

// ownTemp returns a folder under the system's folder for temporary files that only this user can write to.
func ownTemp() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("rag-retrieval-adapters-%d", os.Getuid()))
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := checkOwn(path); err != nil {
		return "", err
	}
	return path, nil
}
