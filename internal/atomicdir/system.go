package atomicdir

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// system has the file system calls of this package. Tests replace it by one whose calls fail.
type system interface {
	Lstat(path string) (fs.FileInfo, error)
	MkdirAll(path string) error
	RemoveAll(path string) error
	Rename(from, to string) error
	// Exchange swaps the names of two paths in one step. Not every file system supports it.
	Exchange(a, b string) error
	// Sync writes a file's content, or a folder's entries, to disk, so that they survive a power cut.
	Sync(path string) error
	CreateTemp(dir, pattern string) (file, error)
}

// file is a temporary file.
type file interface {
	io.Writer
	Name() string
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
}

// disk is the real file system.
type disk struct{}

func (disk) Lstat(path string) (fs.FileInfo, error)       { return os.Lstat(path) }
func (disk) MkdirAll(path string) error                   { return os.MkdirAll(path, 0o755) }
func (disk) RemoveAll(path string) error                  { return os.RemoveAll(path) }
func (disk) Rename(from, to string) error                 { return os.Rename(from, to) }
func (disk) Exchange(a, b string) error                   { return exchange(a, b) }
func (disk) CreateTemp(dir, pattern string) (file, error) { return os.CreateTemp(dir, pattern) }

func (disk) Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if st, statErr := f.Stat(); statErr == nil && st.IsDir() && (errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported)) {
		err = nil // some network file systems can sync only files
	}
	return errors.Join(err, f.Close())
}
