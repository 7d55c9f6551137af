package resolve

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkOwn returns an error unless path is a folder, and no link, that belongs to this user and that nobody else can write to. Another user
// may have made it first.
func checkOwn(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a folder that only this user can write to", path)
	}
	return nil
}
