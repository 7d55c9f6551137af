// Package bm25 scores a fixed set of documents by BM25 (Robertson and Zaragoza 2009), with Lucene's k1, b and inverse document
// frequency. An index is in memory or on disk; both give the same scores, to the bit. The Go libraries for BM25 are whole search
// engines, each with words and scores of its own.
//
//	index := bm25.NewIndex(docs, bm25.Terms, nil)
//	scores := index.Scores("hard negatives") // one for each document
//
//	w := bm25.NewWriter(dir, bm25.Terms)     // Add documents, Close
//	stored, err := bm25.OpenStored(dir, bm25.Terms)
package bm25

import (
	"math"
	"sort"
	"strings"
	"unicode"
)

// Lucene's parameters.
const (
	K1 = 1.2
	B  = 0.75
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
	b := NewBuilder(terms, wanted)
	for _, d := range docs {
		b.Add(d)
	}
	return b.Index()
}

// Builder makes an Index of documents that need not be in memory together.
type Builder struct {
	x       *Index
	wanted  func(term string) bool
	lengths []int32
	total   int
}

// NewBuilder returns a Builder without documents. Its arguments are those of NewIndex.
func NewBuilder(terms func(text string) []string, wanted func(term string) bool) *Builder {
	return &Builder{x: &Index{terms: terms, postings: map[string][]posting{}}, wanted: wanted}
}

// Add adds the next document.
func (b *Builder) Add(text string) {
	counts, length := map[string]int{}, 0
	for _, t := range b.x.terms(text) {
		length++
		if b.wanted == nil || b.wanted(t) {
			counts[t]++
		}
	}
	for t, n := range counts {
		b.x.postings[t] = append(b.x.postings[t], posting{int32(b.x.docs), float64(n)})
	}
	b.x.docs++
	b.lengths, b.total = append(b.lengths, int32(length)), b.total+length
}

// Index returns the index. The Builder must not be used afterwards.
func (b *Builder) Index() *Index {
	mean := float64(b.total) / float64(max(1, b.x.docs))
	for _, list := range b.x.postings {
		for i, p := range list {
			list[i].weight = p.weight * (K1 + 1) / (p.weight + normOf(float64(b.lengths[p.doc]), mean))
		}
	}
	return b.x
}

// normOf is what a document's length adds below the fraction.
func normOf(length, mean float64) float64 { return K1 * (1 - B + B*length/mean) }

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

// Best returns the numbers of the n documents with the highest scores, best first; of equal scores the lower number comes first.
// Documents without a score, which share no term with the query, are left out. As in Top, scores are rounded first.
func Best(scores []float64, n int) []int {
	round := func(i int) float64 { return math.Round(scores[i] * 1e9) }
	worse := func(a, b int) bool { // a comes after b
		x, y := round(a), round(b)
		return x < y || x == y && a > b
	}
	var heap []int // its first is the worst
	sift := func(at int) {
		for child := 2*at + 1; child < len(heap); child = 2*at + 1 {
			if child+1 < len(heap) && worse(heap[child+1], heap[child]) {
				child++
			}
			if worse(heap[at], heap[child]) {
				return
			}
			heap[at], heap[child] = heap[child], heap[at]
			at = child
		}
	}
	for i, s := range scores {
		switch {
		case s <= 0:
		case len(heap) < n:
			if heap = append(heap, i); len(heap) == n {
				for at := n/2 - 1; at >= 0; at-- {
					sift(at)
				}
			}
		case n > 0 && worse(heap[0], i):
			heap[0] = i
			sift(0)
		}
	}
	sort.Slice(heap, func(i, j int) bool { return worse(heap[j], heap[i]) })
	return heap
}
