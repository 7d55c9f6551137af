package scoring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"rag-retrieval-go/internal/shrunk"
)

// weightFile is a file that ONNX Runtime maps while a session is open. If another program writes into the file, the session's
// weights change, which checkUnchanged finds; if it makes the file shorter, package shrunk keeps the process alive until then. Renaming
// or removing the file does no harm: the mapped bytes stay.
type weightFile struct {
	path   string
	lost   func() bool // whether pages of it became zeros, which they stay
	stop   func()      // to watch it
	file   *os.File    // kept open to ask for the state of these bytes, even if the path now names another file
	opened os.FileInfo // the state when the file was opened
	failed atomic.Bool // checkUnchanged has failed
}

// changedError is about a weight file that was written to while a session was open. The session cannot be used any more.
type changedError struct{ path string }

func (e *changedError) Error() string {
	return fmt.Sprintf("%s was changed while the model was in use: try again", e.path)
}

// openWeightFile opens a file and records its size and time of change.
func openWeightFile(path string) (*weightFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &weightFile{path: path, file: f, opened: st}
	w.lost, w.stop = shrunk.Watch(f)
	return w, nil
}

// checkLoaded fails if the path names another file than the one that was opened: ONNX Runtime has then read the other file.
func (w *weightFile) checkLoaded() error {
	now, err := os.Stat(w.path)
	if err != nil || !os.SameFile(now, w.opened) {
		return fmt.Errorf("%s was replaced while the model was opened: try again", w.path)
	}
	return w.checkUnchanged()
}

// checkUnchanged fails if the file was written to after it was opened. It then fails for good: whoever restores the bytes and the time,
// as cp -p does, does not restore what a session has already read or packed.
func (w *weightFile) checkUnchanged() error {
	now, err := w.file.Stat()
	if err != nil {
		return err
	}
	if w.failed.Load() || w.lost() || now.Size() != w.opened.Size() || !now.ModTime().Equal(w.opened.ModTime()) {
		w.failed.Store(true)
		return &changedError{w.path}
	}
	return nil
}

func (w *weightFile) close() error {
	w.stop()
	return w.file.Close()
}

// forEach calls f for all files and joins the errors.
func forEach(files []*weightFile, f func(*weightFile) error) error {
	var errs []error
	for _, w := range files {
		errs = append(errs, f(w))
	}
	return errors.Join(errs...)
}
