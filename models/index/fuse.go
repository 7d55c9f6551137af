package index

import "slices"

// rankConstant is k of reciprocal rank fusion, as in its paper.
const rankConstant = 60

// Fuse joins lists of hits for one query by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): a document's score is the
// sum of 1/(60+rank) over the lists that have it, with ranks from 1. It returns the k best.
func Fuse(k int, lists ...[]Hit) []Hit {
	sums := map[int]float64{}
	for _, list := range lists {
		for i, h := range list {
			sums[h.Document] += 1 / float64(rankConstant+i+1)
		}
	}
	out := make([]Hit, 0, len(sums))
	for d, s := range sums {
		out = append(out, Hit{d, float32(s)})
	}
	slices.SortFunc(out, compareHits)
	return out[:min(k, len(out))]
}
