package data

import "rag-retrieval-go/internal/splitmix"

// permutation is a random permutation of 0, 1, …, n-1 that is computed, not stored. It is a Feistel network over the next
// power of four, applied until the result is below n (cycle walking).
type permutation struct {
	n    uint64
	bits uint // of each half
	key  uint64
}

func newPermutation(n int, seed, epoch uint64) permutation {
	p := permutation{n: uint64(n), bits: 1, key: splitmix.Mix(splitmix.Mix(seed) + epoch)}
	for uint64(1)<<(2*p.bits) < p.n {
		p.bits++
	}
	return p
}

// rounds of the Feistel network. The test shows that 6 leave no visible pattern.
const rounds = 6

// at returns the number at position i of the permutation.
func (p permutation) at(i int) int {
	x, mask := uint64(i), uint64(1)<<p.bits-1
	for {
		left, right := x>>p.bits, x&mask
		for round := range uint64(rounds) {
			left, right = right, left^splitmix.Mix(p.key+round<<56+right)&mask
		}
		if x = left<<p.bits | right; x < p.n {
			return int(x)
		}
	}
}
