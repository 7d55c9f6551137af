package eval

import (
	"context"

	"rag-retrieval-go/models/colbert"
	"rag-retrieval-go/models/embedding"
	"rag-retrieval-go/models/reranker"
	"rag-retrieval-go/mteb"
)

// Embeddings scores by the cosine of a bi-encoder's vectors.
type Embeddings struct {
	Encoder                    *embedding.Encoder
	QueryMaxLen, PassageMaxLen int
	QueryPrompt, PassagePrompt string
}

// texts lists the samples' queries and candidates, each after its prompt.
func texts(samples []mteb.Sample, queryPrompt, passagePrompt string) (queries, passages []string) {
	for _, s := range samples {
		for _, q := range s.Query {
			queries = append(queries, queryPrompt+q)
		}
		for _, p := range s.Candidates() {
			passages = append(passages, passagePrompt+p)
		}
	}
	return queries, passages
}

// Score encodes each text once.
func (e Embeddings) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	queries, passages := texts(samples, e.QueryPrompt, e.PassagePrompt)
	total := len(queries) + len(passages)
	q, err := e.Encoder.Encode(ctx, queries, e.QueryMaxLen, func(done int) { progress(done, total) })
	if err != nil {
		return nil, err
	}
	p, err := e.Encoder.Encode(ctx, passages, e.PassageMaxLen, func(done int) { progress(len(queries)+done, total) })
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for _, query := range q[:len(s.Query)] {
			scores := make([]float32, n)
			for j := range scores {
				scores[j] = dot(query, p[j])
			}
			out[i] = best(out[i], scores)
		}
		q, p = q[len(s.Query):], p[n:]
	}
	return out, nil
}

// best is the larger of two scores of each candidate: sub-queries count by their best score.
func best(a, b []float32) []float32 {
	if a == nil {
		return b
	}
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
}

func dot(a, b []float32) float32 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return float32(sum)
}

// ColBERT scores by MaxSim of a late-interaction model's vectors.
type ColBERT struct {
	Scorer                     *colbert.Scorer
	QueryMaxLen, PassageMaxLen int
}

// chunk is how many samples' token vectors are held at once.
const chunk = 32

// Score encodes each text of a chunk of samples once.
func (c ColBERT) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	total, before := 0, 0
	for _, s := range samples {
		total += len(s.Query) + len(s.Positive) + len(s.Negative)
	}
	var out [][]float32
	for len(samples) > 0 {
		some := samples[:min(chunk, len(samples))]
		queries, passages := texts(some, "", "")
		q, err := c.Scorer.Queries(ctx, queries, c.QueryMaxLen, func(done int) { progress(before+done, total) })
		if err != nil {
			return nil, err
		}
		before += len(queries)
		p, err := c.Scorer.Passages(ctx, passages, c.PassageMaxLen, func(done int) { progress(before+done, total) })
		if err != nil {
			return nil, err
		}
		before += len(passages)
		for _, s := range some {
			n := len(s.Positive) + len(s.Negative)
			var scores []float32
			for _, query := range q[:len(s.Query)] {
				x, err := c.Scorer.Score(query, p[:n], c.PassageMaxLen)
				if err != nil {
					return nil, err
				}
				scores = best(scores, x)
			}
			out = append(out, scores)
			q, p = q[len(s.Query):], p[n:]
		}
		samples = samples[len(some):]
	}
	return out, nil
}

// Reranker scores by a cross-encoder's logits.
type Reranker struct {
	Scorer *reranker.Scorer
	MaxLen int
}

// Score scores the pairs of all samples together, so that pairs of like length share a batch.
func (r Reranker) Score(ctx context.Context, samples []mteb.Sample, progress func(done, total int)) ([][]float32, error) {
	var pairs []reranker.Pair
	for _, s := range samples {
		for _, q := range s.Query {
			for _, p := range s.Candidates() {
				pairs = append(pairs, reranker.Pair{Query: q, Passage: p})
			}
		}
	}
	scores, err := r.Scorer.Score(ctx, pairs, r.MaxLen, func(done int) { progress(done, len(pairs)) })
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for range s.Query {
			out[i], scores = best(out[i], scores[:n:n]), scores[n:]
		}
	}
	return out, nil
}
