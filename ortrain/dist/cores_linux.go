package dist

import "golang.org/x/sys/unix"

// mostCores is the number of bits in the kernel's set of cores as unix.CPUSet has it.
const mostCores = 1024

// usableCores returns the numbers of the cores that this process may use.
func usableCores() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() == 0 {
		return countedCores()
	}
	var out []int
	for i := range mostCores {
		if set.IsSet(i) {
			out = append(out, i)
		}
	}
	return out
}
