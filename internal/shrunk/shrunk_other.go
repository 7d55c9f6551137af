//go:build !linux

package shrunk

import "os"

// Watch does nothing on this system.
func Watch(*os.File) (lost func() bool, stop func()) {
	return func() bool { return false }, func() {}
}
