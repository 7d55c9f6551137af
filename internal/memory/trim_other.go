//go:build !linux

package memory

import "runtime/debug"

// Release gives memory that Go has freed, but kept for later, back to the system: after something large was closed for good.
func Release() { debug.FreeOSMemory() }
