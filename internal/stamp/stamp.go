// Package stamp tells cheaply whether a file is still the one that was read: by size, time of change, inode, and the time
// of the inode's change (ctime). Programs restore the time of change (cp -p, rsync -t, tar); nothing but the system sets
// ctime, so a file with other bytes of the same size and a restored time is another one here, at no cost. A file that was
// only renamed or given other permissions is another one too, and is read again.
package stamp

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Of stamps the file at path, or what a link there points to.
func Of(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return text(st), nil
}

// OfFile stamps an open file.
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
