//go:build !linux

package shrunk

import "os"

// Watch does nothing on this system.
func Watch(*os.File) (stop func()) { return func() {} }
