package finetune

import "rag-retrieval-go/ortrain"

// maxSampledTexts is about how many texts the statistics are made of.
const maxSampledTexts = 2000

// Statistics describes the data of a run.
type Statistics struct {
	Files    []string
	Examples int
	Skipped  int // bad rows, which are not trained on
	// Lengths holds the number of tokens, after truncation, of each text in the first batches. For a reranker, a text is
	// a pair of query and passage.
	Lengths []int
	Queries int // in the validation data
}

// Statistics computes the statistics from the first batches.
func (r *Run) Statistics() (Statistics, error) {
	s := Statistics{Files: r.Config.TrainDataset, Examples: r.Data.Len(), Skipped: r.Data.Skipped}
	if r.validation != nil {
		s.Queries = len(r.validation.samples)
	}
	for step := 0; step < r.Steps && len(s.Lengths) < maxSampledTexts; step++ {
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
