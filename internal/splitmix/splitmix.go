// Package splitmix turns counters into random numbers. Draws that must depend only on seed and step, such as dropout and
// shuffling, use it.
package splitmix

// Mix is one step of SplitMix64 (Steele, Lea, Flood 2014). It is a bijection of 64-bit numbers.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
