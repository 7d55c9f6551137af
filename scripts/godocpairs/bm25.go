package main

import (
	"math"
	"regexp"
	"sort"
	"strings"
)

// bm25 ranks documents by BM25 (Robertson and Zaragoza 2009) with Lucene's k1 and b. The Go libraries for it are whole
// search engines; the few lines here serve one small fixed set.
type bm25 struct {
	docs     int
	postings map[string][]posting
}

type posting struct {
	doc    int
	weight float64 // the term's share of the score, but for its rarity
}

const (
	k1 = 1.2
	b  = 0.75
)

var word = regexp.MustCompile(`[a-z0-9]+`)

func terms(text string) []string { return word.FindAllString(strings.ToLower(text), -1) }

func newBM25(docs []string) *bm25 {
	x := &bm25{docs: len(docs), postings: map[string][]posting{}}
	counts := make([]map[string]int, len(docs))
	lengths, total := make([]int, len(docs)), 0
	for i, d := range docs {
		counts[i] = map[string]int{}
		for _, t := range terms(d) {
			counts[i][t]++
			lengths[i]++
			total++
		}
	}
	mean := float64(total) / float64(len(docs))
	for i, c := range counts {
		norm := k1 * (1 - b + b*float64(lengths[i])/mean)
		for t, n := range c {
			f := float64(n)
			x.postings[t] = append(x.postings[t], posting{i, f * (k1 + 1) / (f + norm)})
		}
	}
	return x
}

// top gives the n best documents for a query but one, best first.
func (x *bm25) top(query string, n, leaveOut int) []int {
	words := terms(query)
	sort.Strings(words) // a fixed order of summation
	scores := make([]float64, x.docs)
	for _, t := range words {
		p := x.postings[t]
		idf := math.Log(1 + (float64(x.docs-len(p))+0.5)/(float64(len(p))+0.5))
		for _, hit := range p {
			scores[hit.doc] += idf * hit.weight
		}
	}
	var order []int
	for i := range scores {
		if i != leaveOut {
			order = append(order, i)
		}
	}
	// Rounded, so that the order does not hang on the last bits of a sum.
	round := func(s float64) float64 { return math.Round(s * 1e9) }
	sort.SliceStable(order, func(i, j int) bool { return round(scores[order[i]]) > round(scores[order[j]]) })
	return order[:min(n, len(order))]
}
