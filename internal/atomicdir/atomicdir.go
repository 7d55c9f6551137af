// Package atomicdir writes folders and files that others see whole or not at all.
package atomicdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Write makes dir with what fill puts into a temporary folder beside it. An existing dir is replaced at the end; when
// fill fails, dir is as it was and the temporary folder is gone.
func Write(dir string, fill func(tmp string) error) (err error) {
	tmp, old := dir+".tmp", dir+".old"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := fill(tmp); err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	if err := swap(tmp, dir, old); err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	return nil
}

// swap puts tmp in place of dir. Cut short between its renames, it leaves the former folder as old.
func swap(tmp, dir, old string) error {
	if _, err := os.Stat(dir); err == nil {
		if err := errors.Join(os.RemoveAll(old), os.Rename(dir, old)); err != nil {
			return err
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(old))
}

// syncDir makes renames in a folder last through a power cut.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
func Create(path string, fill func(w io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	if err := fill(tmp); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}
