package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// checkOutputs returns an error if a file or folder that one of the flags names cannot be written, so that this is known before the
// work and not after it. A file's folder must be there; a folder is made with those above it.
func (j job) checkOutputs(c *cli.Context, files, folders []string) error {
	var err error
	if j.first() { // only it writes
		for _, flag := range files {
			err = errors.Join(err, checkOutputFile(flag, c.String(flag)))
		}
		for _, flag := range folders {
			err = errors.Join(err, checkOutputFolder(flag, c.String(flag)))
		}
	}
	return j.agree(err)
}

func checkOutputFile(flag, path string) error {
	if path == "" {
		return nil
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("--%s %s is a folder, want a file", flag, path)
	}
	if strings.HasSuffix(path, "/") {
		return fmt.Errorf("--%s %s is the name of a folder, want a file", flag, path)
	}
	return tryToWrite(flag, filepath.Dir(path))
}

func checkOutputFolder(flag, path string) error {
	if path == "" {
		return nil
	}
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		return fmt.Errorf("--%s %s is a file, want a folder", flag, path)
	}
	above := path
	for {
		if _, err := os.Stat(above); err == nil || above == filepath.Dir(above) {
			return tryToWrite(flag, above)
		}
		above = filepath.Dir(above)
	}
}

// tryToWrite makes a file in a folder and removes it. Only that tells whether it can be done.
func tryToWrite(flag, folder string) error {
	f, err := os.CreateTemp(folder, ".rag-retrieval-*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err == nil {
		return nil
	}
	if at := (*fs.PathError)(nil); errors.As(err, &at) { // its path is that of the attempt
		err = at.Err
	}
	return fmt.Errorf("--%s: no file can be made in %s: %w", flag, folder, err)
}
