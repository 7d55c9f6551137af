// Package filelock lets one process at a time use a folder or a file. Its locks are those of flock(2): advisory, and freed
// by the system when the process ends, even after a crash. Two locks of one process exclude each other too.
//
//	l, err := filelock.Try(filepath.Join(dir, ".lock"))          // a *Held says who has it
//	l, err := filelock.Wait(ctx, path, func(h filelock.Holder) { … }) // waits, and tells for whom
//	defer l.Close()
package filelock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is the process that holds a lock, as it describes itself in the lock's file.
type Holder struct {
	PID   int       `json:"pid"` // 0 means not known
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// String returns "process 4711 on host since 15:04:05". The date is added if it is not today's.
func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	layout := time.DateTime
	if y, d := h.Since.Year(), h.Since.YearDay(); y == time.Now().Year() && d == time.Now().YearDay() {
		layout = time.TimeOnly
	}
	return fmt.Sprintf("process %d on %s since %s", h.PID, h.Host, h.Since.Local().Format(layout))
}

// alive says whether the holder may still run. A process on another machine is assumed to run.
func (h Holder) alive() bool {
	host, err := os.Hostname()
	return err != nil || host != h.Host || !errors.Is(unix.Kill(h.PID, 0), unix.ESRCH)
}

// Held is the error of Try if another process, or another Lock of this process, holds the lock.
type Held struct{ Holder Holder }

func (e *Held) Error() string { return e.Holder.String() + " holds it" }

// ErrNoLocks says that the file system does not support locks. Some network file systems do not.
var ErrNoLocks = errors.New("the file system does not support locks")

// Lock is a lock that is held.
type Lock struct {
	path string
	f    *os.File
}

// Try takes the lock with the lock file at path. It does not wait: if the lock is held, it returns a *Held. The file's
// folder must exist.
func Try(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(&Held{holder(f)}, f.Close())
		}
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.ENOLCK) {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrNoLocks), f.Close(), os.Remove(path))
		}
		if err != nil {
			return nil, errors.Join(&os.PathError{Op: "locking", Path: path, Err: err}, f.Close())
		}
		if !isFileAt(f, path) { // its holder removed the file after it was opened here
			if err := f.Close(); err != nil {
				return nil, err
			}
			continue
		}
		l := &Lock{path, f}
		l.describe()
		return l, nil
	}
}

// isFileAt says whether an open file is the one at path.
func isFileAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// describe writes the holder into the lock file. It ignores errors, because the lock holds without it too.
func (l *Lock) describe() {
	host, _ := os.Hostname()
	b, err := json.Marshal(Holder{os.Getpid(), host, time.Now().Truncate(time.Second)})
	if err == nil {
		err = l.f.Truncate(0)
	}
	if err == nil {
		_, _ = l.f.WriteAt(b, 0)
	}
}

// holder reads the holder from a lock file. A new holder takes the lock first and then describes itself; until then the
// file is empty or names the previous holder. So an empty file or a dead process is read again.
func holder(f *os.File) Holder {
	for range 10 {
		var h Holder
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
		if err == nil && json.Unmarshal(b, &h) == nil && h.PID != 0 && h.alive() {
			return h
		}
		time.Sleep(10 * time.Millisecond)
	}
	return Holder{}
}

// pollInterval is the time between two attempts of Wait.
const pollInterval = 50 * time.Millisecond

// Wait takes the lock as soon as it is free, or returns the context's error. While it waits, it calls waiting once with the
// holder; waiting may be nil. If the file system does not support locks, Wait returns a nil lock at once.
func Wait(ctx context.Context, path string, waiting func(Holder)) (*Lock, error) {
	reported := false
	for {
		l, err := Try(path)
		var held *Held
		if errors.Is(err, ErrNoLocks) {
			return nil, nil
		}
		if !errors.As(err, &held) {
			return l, err
		}
		if !reported && waiting != nil {
			reported = true
			waiting(held.Holder)
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close removes the lock file and frees the lock. If another process has made a new lock file at the same path meanwhile,
// that file stays.
func (l *Lock) Close() error {
	if l == nil || l.f == nil {
		return nil
	}
	var err error
	if isFileAt(l.f, l.path) {
		err = os.Remove(l.path)
	}
	err = errors.Join(err, l.f.Close())
	l.f = nil
	return err
}
