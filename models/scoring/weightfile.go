package scoring

import (
	"errors"
	"fmt"
	"os"
)

// weightFile is a file that a session's weights stay in while it is open. ONNX Runtime sees what others write into it. A
// file that was renamed or removed is of no concern: its bytes stay.
type weightFile struct {
	path   string
	file   *os.File // of its own, so that it tells of these bytes, whatever has the path now
	opened os.FileInfo
}

// openWeightFile notes how a file is before it is read.
func openWeightFile(path string) (*weightFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &weightFile{path, f, st}, nil
}

// read is an error where the path, by which ONNX Runtime has read, was no longer this file's.
func (w *weightFile) read() error {
	now, err := os.Stat(w.path)
	if err != nil || !os.SameFile(now, w.opened) {
		return fmt.Errorf("%s was replaced while the model was opened: try again", w.path)
	}
	return w.unchanged()
}

// unchanged is an error where somebody wrote into the file.
func (w *weightFile) unchanged() error {
	now, err := w.file.Stat()
	if err == nil && (now.Size() != w.opened.Size() || !now.ModTime().Equal(w.opened.ModTime())) {
		err = fmt.Errorf("%s was changed while the model was in use: try again", w.path)
	}
	return err
}

func (w *weightFile) close() error { return w.file.Close() }

// each joins what f gives for files.
func each(files []*weightFile, f func(*weightFile) error) error {
	var errs []error
	for _, w := range files {
		errs = append(errs, f(w))
	}
	return errors.Join(errs...)
}
