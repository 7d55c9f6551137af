package index

import (
	"math"
	"slices"
)

// best collects the k documents with the highest scores, of documents that come in ascending order. keys holds up to 2k candidates;
// when it is full, the better half stays. That costs less than a heap: a candidate is looked at about three times, not log(k)
// times. A key orders hits: in its upper half is the score, in its lower half the document, such that a greater key is a better
// hit.
type best struct {
	k    int
	keys []uint64
	// worst is the score of the k-th best when the better half was taken last, which a further document must exceed; before that,
	// -Inf. A document with an equal score comes later and has a higher number, so it does not enter.
	worst float32
}

func newBest(k int) best { return best{k: k, worst: float32(math.Inf(-1))} }

// keyOf makes the key of a hit. The bits of a positive float order like the float; those of a negative one the other way round.
func keyOf(h Hit) uint64 {
	bits := math.Float32bits(h.Score + 0) // -0 becomes 0, to which it is equal
	if bits>>31 == 0 {
		bits |= 1 << 31
	} else {
		bits = ^bits
	}
	return uint64(bits)<<32 | uint64(^uint32(h.Document))
}

func hitOf(key uint64) Hit {
	bits := uint32(key >> 32)
	if bits>>31 == 1 {
		bits &^= 1 << 31
	} else {
		bits = ^bits
	}
	return Hit{int(^uint32(key)), math.Float32frombits(bits)}
}

// offer takes in the scores of the documents number(0), number(1), ….
func (b *best) offer(scores []float32, number func(i int) int) {
	worst := b.worst
	for i, x := range scores {
		if x > worst {
			b.add(Hit{number(i), x})
			worst = b.worst
		}
	}
}

// add takes in a hit whose score exceeds worst.
func (b *best) add(h Hit) {
	if b.keys = append(b.keys, keyOf(h)); len(b.keys) < max(2*b.k, 64) {
		return
	}
	greatestFirst(b.keys, b.k)
	b.keys = b.keys[:b.k]
	b.worst = hitOf(slices.Min(b.keys)).Score
}

// greatestFirst moves the k greatest keys, of more than k, to the beginning, in any order (Hoare's quickselect).
func greatestFirst(keys []uint64, k int) {
	for len(keys) > 1 && k > 0 && k < len(keys) {
		a, b, c := keys[0], keys[len(keys)/2], keys[len(keys)-1]
		pivot := max(min(a, b), min(max(a, b), c)) // the median
		i, j := 0, len(keys)-1
		for i <= j {
			for keys[i] > pivot {
				i++
			}
			for keys[j] < pivot {
				j--
			}
			if i <= j {
				keys[i], keys[j] = keys[j], keys[i]
				i, j = i+1, j-1
			}
		}
		switch { // all of keys[:j+1] are at least the pivot, all of keys[i:] at most
		case k <= j:
			keys = keys[:j+1]
		case k > i:
			keys, k = keys[i:], k-i
		default:
			return
		}
	}
}

// hits returns the hits, best first. No more may be offered.
func (b *best) hits() []Hit {
	slices.Sort(b.keys)
	slices.Reverse(b.keys)
	out := make([]Hit, min(b.k, len(b.keys)))
	for i := range out {
		out[i] = hitOf(b.keys[i])
	}
	return out
}
