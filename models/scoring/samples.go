package scoring

import (
	"context"

	"rag-retrieval-go/mteb"
)

// SampleScorer makes a Ranker an mteb.Scorer: the documents of a sample are its candidates, positives first.
type SampleScorer struct{ Ranker Ranker }

// Score implements mteb.Scorer.
func (s SampleScorer) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	queries := make([]Query, len(samples))
	for i, x := range samples {
		queries[i] = Query{Texts: x.Query, Prompt: x.Prompt, Documents: x.Candidates(), Origin: x.Origin}
	}
	return s.Ranker.Rank(ctx, queries, RankOptions{Start: from, Progress: progress}, emit)
}
