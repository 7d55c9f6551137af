// Package bm25 scores a fixed set of documents in memory by BM25 (Robertson and Zaragoza 2009), with Lucene's k1, b and
// inverse document frequency. The Go libraries for BM25 are whole search engines with an index on disk.
//
//	index := bm25.NewIndex(docs, bm25.Terms, nil)
//	scores := index.Scores("hard negatives") // one for each document
package bm25

import (
	"math"
	"sort"
	"strings"
	"unicode"
)

const (
	k1 = 1.2
	b  = 0.75
)

// Index is an inverted index of documents.
type Index struct {
	terms    func(text string) []string
	docs     int
	postings map[string][]posting
}

type posting struct {
	doc    int32
	weight float64 // of the term in the document, without the inverse document frequency
}

// Terms splits a text into words in lower case. Chinese, Japanese and Korean have no spaces between words; for them the
// terms are all characters and all pairs of neighbouring characters.
func Terms(text string) []string {
	var out []string
	var word []rune
	var before rune // the previous character if it is Chinese, Japanese or Korean, otherwise 0
	end := func() {
		if len(word) > 0 {
			out, word = append(out, string(word)), word[:0]
		}
	}
	for _, r := range strings.ToLower(text) {
		wide := unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
		if !wide && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			word, before = append(word, r), 0
			continue
		}
		end()
		if wide {
			out = append(out, string(r))
			if before != 0 {
				out = append(out, string([]rune{before, r}))
			}
			before = r
			continue
		}
		before = 0
	}
	end()
	return out
}

// NewIndex indexes documents by their terms. terms is a function such as Terms. Only terms that wanted accepts are kept, to
// save memory; a nil wanted accepts all.
func NewIndex(docs []string, terms func(text string) []string, wanted func(term string) bool) *Index {
	x := &Index{terms: terms, docs: len(docs), postings: map[string][]posting{}}
	lengths, total := make([]int, len(docs)), 0
	for i, d := range docs {
		counts := map[string]int{}
		for _, t := range terms(d) {
			lengths[i]++
			if wanted == nil || wanted(t) {
				counts[t]++
			}
		}
		total += lengths[i]
		for t, n := range counts {
			x.postings[t] = append(x.postings[t], posting{int32(i), float64(n)})
		}
	}
	mean := float64(total) / float64(max(1, len(docs)))
	for _, list := range x.postings {
		for i, p := range list {
			norm := k1 * (1 - b + b*float64(lengths[p.doc])/mean)
			list[i].weight = p.weight * (k1 + 1) / (p.weight + norm)
		}
	}
	return x
}

// Scores returns the score of every document for a query.
func (x *Index) Scores(query string) []float64 {
	words := x.terms(query)
	sort.Strings(words) // a fixed order of summation
	scores := make([]float64, x.docs)
	for _, t := range words {
		list := x.postings[t]
		idf := math.Log(1 + (float64(x.docs-len(list))+0.5)/(float64(len(list))+0.5))
		for _, p := range list {
			scores[p.doc] += idf * p.weight
		}
	}
	return scores
}

// Top returns the numbers of the n best documents for a query, best first. The document number exclude is left out.
func (x *Index) Top(query string, n, exclude int) []int {
	scores := x.Scores(query)
	var order []int
	for i := range scores {
		if i != exclude {
			order = append(order, i)
		}
	}
	// Scores are rounded, so that the order does not depend on the last bits of a sum.
	round := func(s float64) float64 { return math.Round(s * 1e9) }
	sort.SliceStable(order, func(i, j int) bool { return round(scores[order[i]]) > round(scores[order[j]]) })
	return order[:min(n, len(order))]
}
