//go:build !linux

package dist

// usableCores returns the numbers of the cores that this process may use.
func usableCores() []int { return countedCores() }
