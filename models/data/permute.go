package data

import "rag-retrieval-go/internal/splitmix"

// permutation is a shuffle of 0, 1, …, n-1 that is computed, not stored: a Feistel network over the next power of four,
// walked until it lands below n.
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

// rounds are enough for a shuffle that shows no pattern; see the test.
const rounds = 6

// at is the number in place i of the shuffled order.
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
