package finetune

import "rag-retrieval-go/ortrain"

// sampled is how many texts the statistics look at.
const sampled = 2000

// Statistics says what a run's data are like.
type Statistics struct {
	Files    []string
	Examples int
	Skipped  int // bad rows that were left out
	// Lengths are the numbers of tokens, cut as in training, of the texts (a reranker's pairs) of the first batches.
	Lengths []int
	Queries int // for validation
}

// Statistics looks at the first batches.
func (r *Run) Statistics() (Statistics, error) {
	s := Statistics{Files: r.Config.TrainDataset, Examples: r.Data.Len(), Skipped: r.Data.Skipped}
	if r.validation != nil {
		s.Queries = len(r.validation.samples)
	}
	for step := 0; step < r.Steps && len(s.Lengths) < sampled; step++ {
		batches, err := r.source(step)
		if err != nil {
			return s, err
		}
		for _, b := range batches {
			s.Lengths = append(s.Lengths, lengths(b)...)
		}
	}
	return s, nil
}

func lengths(b *ortrain.Batch) []int {
	out := b.Lengths
	for _, chunk := range b.Chunks {
		out = append(out, chunk.Lengths...)
	}
	return out
}
