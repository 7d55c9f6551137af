package atomicdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var errFault = errors.New("a fault")

// faulty is a file system whose call number fail does nothing and returns an error. With crash, all later calls fail too.
type faulty struct {
	disk
	calls         []string // that were made, with their last path
	fail          int      // from 0; -1: none
	crash         bool
	neverExchange bool // as on a file system that cannot
}

func (s *faulty) call(name, path string) error {
	n := len(s.calls)
	s.calls = append(s.calls, name+" "+filepath.Base(path))
	if n == s.fail || s.crash && s.fail >= 0 && n > s.fail {
		return errFault
	}
	return nil
}

func (s *faulty) Lstat(path string) (fs.FileInfo, error) {
	if err := s.call("lstat", path); err != nil {
		return nil, err
	}
	return s.disk.Lstat(path)
}

func (s *faulty) MkdirAll(path string) error {
	return orDo(s.call("mkdir", path), func() error { return s.disk.MkdirAll(path) })
}

func (s *faulty) RemoveAll(path string) error {
	return orDo(s.call("remove", path), func() error { return s.disk.RemoveAll(path) })
}

func (s *faulty) Rename(from, to string) error {
	return orDo(s.call("rename", to), func() error { return s.disk.Rename(from, to) })
}

func (s *faulty) Exchange(a, b string) error {
	if s.neverExchange {
		return syscall.EINVAL
	}
	return orDo(s.call("exchange", b), func() error { return s.disk.Exchange(a, b) })
}

func (s *faulty) Sync(path string) error {
	return orDo(s.call("sync", path), func() error { return s.disk.Sync(path) })
}

func (s *faulty) CreateTemp(dir, pattern string) (file, error) {
	if err := s.call("create", pattern); err != nil {
		return nil, err
	}
	f, err := s.disk.CreateTemp(dir, pattern)
	return &faultyFile{f, s}, err
}

type faultyFile struct {
	file
	s *faulty
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.s.call("write", f.Name()); err != nil {
		n, _ := f.file.Write(b[:len(b)/2]) // as on a full disk
		return n, err
	}
	return f.file.Write(b)
}

func (f *faultyFile) Chmod(mode fs.FileMode) error {
	return orDo(f.s.call("chmod", f.Name()), func() error { return f.file.Chmod(mode) })
}

func (f *faultyFile) Sync() error {
	return orDo(f.s.call("fsync", f.Name()), func() error { return f.file.Sync() })
}

func (f *faultyFile) Close() error { return errors.Join(f.s.call("close", f.Name()), f.file.Close()) }

func orDo(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder fills a folder with two files of the same text. The second file is in a subfolder.
func folder(text string) func(tmp string) error {
	return func(tmp string) error {
		return errors.Join(os.WriteFile(filepath.Join(tmp, "a"), []byte(text), 0o600), os.Mkdir(filepath.Join(tmp, "b"), 0o700),
			os.WriteFile(filepath.Join(tmp, "b", "c"), []byte(text), 0o600))
	}
}

// whole returns the text of a folder that folder filled, or "" if there is no folder. An incomplete folder fails the test.
func whole(t *testing.T, dir string) string {
	t.Helper()
	a, err := os.ReadFile(filepath.Join(dir, "a"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s has no a", dir)
		}
		return ""
	}
	c, err := os.ReadFile(filepath.Join(dir, "b", "c"))
	if err != nil || string(a) != string(c) {
		t.Errorf("half a folder: %q, %q, %v", a, c, err)
	}
	return string(a)
}

// Each call of the file system fails in turn, either only this call, or also all later ones as in a crash. The old or the new
// folder is always complete: at once if the process continues, and after Recover if it died. This also holds on a file
// system that cannot exchange folders.
func TestWriteFaults(t *testing.T) {
	for _, before := range []string{"", "old"} {
		for mode := range 4 {
			crash, never := mode&1 > 0, mode&2 > 0
			for fail := 0; ; fail++ {
				dir := filepath.Join(t.TempDir(), "dir")
				if before != "" {
					check(t, Write(dir, folder(before)))
				}
				s := &faulty{fail: fail, crash: crash, neverExchange: never}
				err := write(s, dir, folder("new"))
				what := fmt.Sprintf("before %q, crash %v, no exchange %v, fault at %d of %v: %v", before, crash, never, fail, s.calls, err)
				if !crash {
					checkAfter(t, dir, before, err, what)
				}
				if former := PreviousPath(dir); former != "" && whole(t, former) != before {
					t.Errorf("%s: the former folder is not whole", what)
				}
				check(t, Recover(dir))
				checkAfter(t, dir, before, err, what)
				check(t, Write(dir, folder("newer")))
				if left, _ := os.ReadDir(filepath.Dir(dir)); whole(t, dir) != "newer" || len(left) != 1 {
					t.Errorf("%s: the next one left %v", what, left)
				}
				if fail >= len(s.calls) {
					break
				}
			}
		}
	}
}

func checkAfter(t *testing.T, dir, before string, err error, what string) {
	t.Helper()
	if now := whole(t, dir); now != "new" && (err == nil || now != before) {
		t.Errorf("%s: there is %q", what, now)
	}
}

// Everything in a folder is synced before the folder is renamed, and its parent folder afterwards.
func TestWriteSyncs(t *testing.T) {
	for _, never := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "dir")
		check(t, Write(dir, folder("old")))
		s := &faulty{fail: -1, neverExchange: never}
		check(t, write(s, dir, folder("new")))
		calls := strings.Join(s.calls, ", ")
		place := map[bool]string{false: "exchange dir", true: "rename dir" + PreviousSuffix + ", rename dir"}[never]
		want := fmt.Sprintf("sync dir"+TemporarySuffix+", sync a, sync b, sync c, lstat dir, %s, sync %s, remove dir", place, filepath.Base(filepath.Dir(dir)))
		if !strings.Contains(calls, want) {
			t.Errorf("calls: %s\nwant %s", calls, want)
		}
	}
}

// After an error of fill, the folder is as it was before. It may also not exist.
func TestWriteFailingFill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub", "dir")
	fill := func(tmp string) error { return errors.Join(folder("x")(tmp), errFault) }
	if err := Write(dir, fill); !errors.Is(err, errFault) {
		t.Errorf("%v", err)
	}
	check(t, Write(dir, folder("old")))
	if err := Write(dir, fill); !errors.Is(err, errFault) || !strings.HasPrefix(err.Error(), "writing "+dir+": ") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 || whole(t, dir) != "old" {
		t.Errorf("left %v", left)
	}
}

// Whichever call fails, the file has either the old or the new content. Without a crash, no temporary file remains.
func TestCreateFaults(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for fail := 0; ; fail++ {
			path := filepath.Join(t.TempDir(), "f.json")
			check(t, WriteFile(path, []byte("old")))
			s := &faulty{fail: fail, crash: crash}
			err := create(s, path, func(w io.Writer) error {
				_, err := io.WriteString(w, "new")
				return err
			})
			what := fmt.Sprintf("crash %v, fault at %d of %v: %v", crash, fail, s.calls, err)
			now, readErr := os.ReadFile(path)
			if readErr != nil || string(now) != "new" && (err == nil || string(now) != "old") {
				t.Errorf("%s: there is %q, %v", what, now, readErr)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); !crash && len(left) != 1 {
				t.Errorf("%s: left %v", what, left)
			}
			check(t, Clean(path))
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("%s: cleaned up, left %v", what, left)
			}
			if fail >= len(s.calls) {
				if calls := strings.Join(s.calls, " "); !strings.Contains(calls, "fsync") || strings.Index(calls, "fsync") > strings.Index(calls, "rename") {
					t.Errorf("not synced before it is renamed: %s", calls)
				}
				break
			}
		}
	}
}

// A user's folders beside dir, whose names other programs use for such purposes, stay as they are.
func TestWriteKeepsOtherFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	for _, suffix := range []string{".old", ".tmp"} {
		check(t, Write(dir+suffix, folder("mine")))
	}
	for _, s := range []system{disk{}, &faulty{fail: -1, neverExchange: true}} {
		check(t, write(s, dir, folder("first")))
		check(t, write(s, dir, folder("second")))
		check(t, Recover(dir))
		for _, suffix := range []string{".old", ".tmp"} {
			if whole(t, dir+suffix) != "mine" {
				t.Errorf("dir%s was changed", suffix)
			}
		}
	}
	if whole(t, dir) != "second" {
		t.Error("dir was not replaced")
	}
}

// Recover and PreviousPath find only a folder that Write has renamed.
func TestRecover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	check(t, Recover(dir))
	if PreviousPath(dir) != "" {
		t.Error("a former folder where there is none")
	}
	check(t, Write(dir, folder("old")))
	check(t, os.Rename(dir, dir+PreviousSuffix))
	if PreviousPath(dir) != dir+PreviousSuffix {
		t.Errorf("the former folder is %q", PreviousPath(dir))
	}
	check(t, Recover(dir))
	if whole(t, dir) != "old" || PreviousPath(dir) != "" {
		t.Error("not put back")
	}
	check(t, os.Rename(dir, dir+PreviousSuffix))
	if err := Write(dir, func(string) error { return errFault }); !errors.Is(err, errFault) || whole(t, dir) != "old" {
		t.Errorf("Write did not put it back first: %v", err)
	}
}

func TestWriteJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 255))
	check(t, WriteJSON(path, map[string]int{"a": 1}))
	st, err := os.Stat(path)
	check(t, err)
	if b, _ := os.ReadFile(path); string(b) != "{\n  \"a\": 1\n}\n" || st.Mode().Perm() != 0o644 {
		t.Errorf("%q, %v", b, st.Mode())
	}
	if err := WriteJSON(path, func() {}); err == nil {
		t.Error("a function is no JSON")
	}
}
