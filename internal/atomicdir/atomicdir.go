// Package atomicdir writes folders and files that others see whole or not at all, after a crash and a power cut too: what
// is written is synced before it takes its name, and the folder that has the name afterwards.
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

// Write makes dir with what fill puts into a temporary folder beside it. An existing dir is replaced at the end; when
// fill fails, dir is as it was and the temporary folder is gone. One process at a time may write a dir.
func Write(dir string, fill func(tmp string) error) error { return write(disk{}, dir, fill) }

// Recover puts back a dir that Write was replacing when its process died: where the file system cannot exchange two
// folders, there is a moment in which the former one lies beside its place. Write recovers by itself.
func Recover(dir string) error {
	if err := recoverDir(disk{}, dir); err != nil {
		return fmt.Errorf("putting back %s: %w", dir, err)
	}
	return nil
}

// Former is where a dir that Recover would put back lies; empty where there is none. It is for readers, who may not move
// what another process writes.
func PreviousPath(dir string) string {
	if there, err := exists(disk{}, dir); there || err != nil {
		return ""
	}
	if there, err := exists(disk{}, dir+formerSuffix); !there || err != nil {
		return ""
	}
	return dir + formerSuffix
}

const (
	temporarySuffix = ".tmp"
	formerSuffix    = ".old"
)

func write(s system, dir string, fill func(tmp string) error) error {
	tmp := dir + temporarySuffix
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

// swap puts tmp in place of dir.
func swap(s system, tmp, dir string) error {
	old, err := install(s, tmp, dir)
	if err != nil {
		return errors.Join(err, s.RemoveAll(tmp))
	}
	// The former folder goes when its successor is sure to stay.
	if err := s.Sync(filepath.Dir(dir)); err != nil || old == "" {
		return err
	}
	return s.RemoveAll(old)
}

// place gives tmp the name dir, and says where the folder that had it is now; empty: none had.
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
	old = dir + formerSuffix // the file system cannot exchange: Recover knows what to do between the two renames
	if err := s.Rename(dir, old); err != nil {
		return "", err
	}
	if err := s.Rename(tmp, dir); err != nil {
		return "", errors.Join(err, s.Rename(old, dir))
	}
	return old, nil
}

// recoverDir leaves dir, if there was one, and no former folder.
func recoverDir(s system, dir string) error {
	old := dir + formerSuffix
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

// syncTree makes a folder's files and folders last.
func syncTree(s system, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return s.Sync(path)
	})
}

// WriteFile writes a file through a temporary one beside it.
func WriteFile(path string, content []byte) error {
	return Create(path, func(w io.Writer) error {
		if _, err := w.Write(content); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		return nil
	})
}

// WriteJSON writes a value as indented JSON, as WriteFile does.
func WriteJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}

// Create makes a file of what fill writes, through a temporary one beside it. An error of fill is given back as it is.
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

// temporaryPrefix starts the names of a file's temporary ones.
func temporaryPrefix(path string) string {
	base := filepath.Base(path)
	if len(base) > 200 { // names end at 255 bytes
		base = ""
	}
	return "." + base + ".tmp-"
}

// Clean removes the temporary files of a file whose writers were killed. None may be writing it.
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
