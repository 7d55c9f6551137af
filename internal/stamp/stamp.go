// Package stamp finds out, without reading a file, whether it has changed. A stamp consists of size, modification time,
// inode and ctime, the time of the inode's last change. Programs can restore the modification time (cp -p, rsync -t, tar),
// but only the system sets ctime. So the stamp changes even if a file gets other bytes of the same size and its old
// modification time. It also changes if a file is renamed or gets other permissions; the file is then read again.
package stamp

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OfPath returns the stamp of the file at path. It follows links.
func OfPath(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return text(st), nil
}

// OfFile returns the stamp of an open file.
func OfFile(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return text(st), nil
}

func text(st unix.Stat_t) string {
	return fmt.Sprintf("%d bytes, changed %d, %d, inode %d", st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Ino)
}
