// Package atomicdir writes folders and files atomically: other processes see either the old or the complete new content,
// even after a crash or a power cut. It writes under a temporary name, syncs, renames, and syncs the parent folder.
//
//	err := atomicdir.Write("out/model", func(tmp string) error {
//		return os.WriteFile(filepath.Join(tmp, "config.json"), b, 0o644)
//	})
package atomicdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write creates or replaces the folder dir. It calls fill with a temporary folder beside dir, which then replaces dir. If
// fill fails, dir stays as it was and the temporary folder is removed. Only one process at a time may write a dir.
func Write(dir string, fill func(tmp string) error) error { return write(disk{}, dir, fill) }

// Recover restores a dir that Write was replacing when its process died. If the file system cannot exchange two folders,
// there is a moment in which the previous folder has been renamed and the new one is not yet in its place. Write itself
// calls Recover first.
func Recover(dir string) error {
	if err := recoverDir(disk{}, dir); err != nil {
		return fmt.Errorf("restoring %s: %w", dir, err)
	}
	return nil
}

// PreviousPath returns the path of the folder that Recover would restore, or "" if dir is there or nothing can be restored.
// Readers use it, because they must not rename a folder that another process may be writing.
func PreviousPath(dir string) string {
	if there, err := exists(disk{}, dir); there || err != nil {
		return ""
	}
	if there, err := exists(disk{}, dir+PreviousSuffix); !there || err != nil {
		return ""
	}
	return dir + PreviousSuffix
}

// Suffixes of the folders that Write makes beside dir. No other program has such names: Write removes what it finds there,
// and must not remove a user's own "model.old".
const (
	TemporarySuffix = ".rag-retrieval-tmp" // the new content
	PreviousSuffix  = ".rag-retrieval-old" // the previous content
)

func write(s system, dir string, fill func(tmp string) error) error {
	tmp := dir + TemporarySuffix
	err := func() error {
		err := errors.Join(recoverDir(s, dir), s.RemoveAll(tmp), s.MkdirAll(tmp))
		if err == nil {
			err = fill(tmp)
		}
		if err == nil {
			err = syncTree(s, tmp)
		}
		if err != nil {
			return errors.Join(err, s.RemoveAll(tmp))
		}
		return swap(s, tmp, dir)
	}()
	if err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	return nil
}

// swap replaces dir by tmp.
func swap(s system, tmp, dir string) error {
	old, err := install(s, tmp, dir)
	if err != nil {
		return errors.Join(err, s.RemoveAll(tmp))
	}
	// The previous folder is removed only after the new one has been synced to disk.
	if err := s.Sync(filepath.Dir(dir)); err != nil || old == "" {
		return err
	}
	return s.RemoveAll(old)
}

// install renames tmp to dir. It returns the path of the folder that had this name before, or "" if there was none.
func install(s system, tmp, dir string) (old string, err error) {
	there, err := exists(s, dir)
	if err != nil {
		return "", err
	}
	if !there {
		return "", s.Rename(tmp, dir)
	}
	if s.Exchange(tmp, dir) == nil {
		return tmp, nil
	}
	old = dir + PreviousSuffix // the file system cannot exchange; Recover handles a crash between the two renames
	if err := s.Rename(dir, old); err != nil {
		return "", err
	}
	if err := s.Rename(tmp, dir); err != nil {
		return "", errors.Join(err, s.Rename(old, dir))
	}
	return old, nil
}

// recoverDir restores dir from the previous folder if dir is missing; otherwise it removes the previous folder.
func recoverDir(s system, dir string) error {
	old := dir + PreviousSuffix
	there, err := exists(s, dir)
	if err != nil {
		return err
	}
	if there {
		return s.RemoveAll(old)
	}
	if there, err = exists(s, old); !there || err != nil {
		return err
	}
	return errors.Join(s.Rename(old, dir), s.Sync(filepath.Dir(dir)))
}

func exists(s system, path string) (bool, error) {
	_, err := s.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// syncTree syncs a folder and everything in it.
func syncTree(s system, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return s.Sync(path)
	})
}

// WriteFile creates or replaces a file with this content.
func WriteFile(path string, content []byte) error {
	return Create(path, func(w io.Writer) error {
		if _, err := w.Write(content); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		return nil
	})
}

// WriteJSON creates or replaces a file with a value as indented JSON.
func WriteJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}

// Create creates or replaces a file with the content that fill writes. It writes into a temporary file beside it first. An
// error of fill is returned unchanged.
func Create(path string, fill func(w io.Writer) error) error { return create(disk{}, path, fill) }

func create(s system, path string, fill func(w io.Writer) error) error {
	tmp, err := s.CreateTemp(filepath.Dir(path), temporaryPrefix(path)+"*")
	if err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return errors.Join(err, tmp.Close(), s.RemoveAll(tmp.Name()))
	}
	err = errors.Join(tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = s.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), s.RemoveAll(tmp.Name()))
	}
	return s.Sync(filepath.Dir(path))
}

// temporaryPrefix is the beginning of the names of a file's temporary files.
func temporaryPrefix(path string) string {
	base := filepath.Base(path)
	if len(base) > 200 { // a name has at most 255 bytes
		base = ""
	}
	return "." + base + ".tmp-"
}

// Clean removes temporary files that killed writers of a file left. No process may be writing the file.
func Clean(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporaryPrefix(path)) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return errors.Join(errs...)
}
