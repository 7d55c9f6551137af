// Package splitmix scatters counters: the heart of every draw that must be a pure function of seed and step.
package splitmix

// Mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a Weyl step: a bijection of 64-bit numbers.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
