package finetune

import (
	"fmt"
	"slices"

	"rag-retrieval-go/models/data"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/mteb"
)

// maxBorrowedNegatives is how many positives of other rows serve as negatives of a row, if the data has no negatives.
const maxBorrowedNegatives = 19

// rerankingSamples makes reranking samples from rows in the training formats, one for each query. Positives are "pos", or
// the passages with a label above minLabel. Negatives are "neg", or the other labelled passages. If no row has negatives,
// positives of other rows serve as negatives. Queries without a positive or a negative are dropped; if none remains, that
// is an error.
func rerankingSamples(d *data.Dataset, minLabel float64) ([]mteb.Sample, error) {
	var out []mteb.Sample
	index := map[prompt.Text]int{}
	for i := range d.Len() {
		if d.IndexInRow(i) > 0 {
			continue // another example of a row that was read
		}
		e, err := d.Example(i)
		if err != nil {
			return nil, err
		}
		text := e.Row.QueryText()
		k, ok := index[text]
		if !ok {
			k = len(out)
			index[text] = k
			out = append(out, mteb.Sample{ID: fmt.Sprint(k), Query: []string{text.Text}, Prompt: text.Prompt, Origin: d.Location(i)})
		}
		addPassages(&out[k], e.Row, minLabel)
	}
	if !slices.ContainsFunc(out, func(s mteb.Sample) bool { return len(s.Negative) > 0 }) {
		borrowNegatives(out)
	}
	kept := out[:0]
	for _, s := range out {
		if len(s.Positive) > 0 && len(s.Negative) > 0 {
			kept = append(kept, s)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%s: no query has both a positive and a negative passage", d.Name())
	}
	return kept, nil
}

// borrowNegatives gives each sample the first positive of each of the following samples as negatives.
func borrowNegatives(samples []mteb.Sample) {
	for i := range samples {
		s := &samples[i]
		for j := 1; j <= min(maxBorrowedNegatives, len(samples)-1); j++ {
			other := samples[(i+j)%len(samples)].Positive
			if len(other) > 0 && !slices.Contains(s.Positive, other[0]) {
				s.Negative = append(s.Negative, other[0])
			}
		}
	}
}

// addPassages adds the passages of a row to a sample.
func addPassages(s *mteb.Sample, r data.Row, minLabel float64) {
	add := func(text string, label float64) {
		if label > minLabel {
			s.Positive = append(s.Positive, text)
		} else {
			s.Negative = append(s.Negative, text)
		}
	}
	switch form := r.Form(); {
	case form == data.Labeled:
		add(*r.Content, *r.Label)
	case form == data.Grouped:
		for _, h := range r.Hits {
			add(*h.Content, *h.Label)
		}
	case form == data.Scored && len(r.Neg) == 0: // only the passage with the teacher's best score is positive
		best := 0
		for i, x := range r.Scores {
			if x > r.Scores[best] {
				best = i
			}
		}
		for i, text := range r.Pos {
			if i == best {
				s.Positive = append(s.Positive, text)
			} else {
				s.Negative = append(s.Negative, text)
			}
		}
	default:
		s.Positive = append(s.Positive, r.Pos...)
		s.Negative = append(s.Negative, r.Neg...)
	}
}
