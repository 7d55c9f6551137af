package scoring

import (
	"context"
	"errors"
	"math"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/mteb"
)

// Samples are scored in order, block by block, so that memory holds the tokens and vectors of one block, and an evaluation
// that was stopped goes on at any sample. Blocks and their batches depend on the samples alone: what is scored again
// after a stop, or with int8, gets the same score.

// How many candidates' values are held at once: vectors, and a vector of every token, of which 512 take a quarter of a
// megabyte.
const (
	VectorBlock      = 2048
	TokenVectorBlock = 1024
)

// Overlap is how many tokens the windows of a long passage share, as in RAG-Retrieval's max_score_slice.
func Overlap(window int) int { return min(80, window/4) }

// blocks cuts samples into runs of at most size texts, one sample at least: the end of each.
func blocks(samples []mteb.Sample, size int, texts func(s mteb.Sample) int) []int {
	var ends []int
	n := 0
	for i, s := range samples {
		if k := texts(s); n > 0 && n+k > size {
			ends, n = append(ends, i), k
		} else {
			n += k
		}
	}
	return append(ends, len(samples))
}

// BiEncoder scores samples by comparing what was made of queries and of passages, each text alone.
type BiEncoder[V any] struct {
	// Rows makes a text's tokens: one row of a query; several of a passage are its windows, of which the best one counts.
	Rows       func(x prompt.Text) ([]encoder.Row, error)
	Forward    func(rows []encoder.Row) ([]V, error)
	Similarity func(query V, passages []V) ([]float32, error)
	// Block is how many candidates' values are held at once, besides those that later samples share.
	Block int
}

// use is what is known of a text: its last sample, and its values from its first to its last use.
type use[V any] struct {
	last   int
	seen   bool
	values []V
}

// Score implements mteb.Scorer: each text is encoded once. Progress is told in texts.
func (b BiEncoder[V]) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	uses := map[prompt.Text]*use[V]{}
	for i, s := range samples {
		eachText(s, func(t prompt.Text) {
			if uses[t] == nil {
				uses[t] = &use[V]{}
			}
			uses[t].last = i
		})
	}
	total, done := 0, 0
	for _, u := range uses {
		if u.last >= from {
			total++
		}
	}
	start := 0
	for _, end := range blocks(samples, b.Block, func(s mteb.Sample) int { return len(s.Positive) + len(s.Negative) }) {
		err := b.encode(ctx, samples, start, end, from, uses, func(n int) {
			done += n
			progress(done, total)
		})
		if err != nil {
			return err
		}
		for i := start; i < end; i++ {
			if i >= from {
				scores, err := b.sample(samples[i], uses)
				if err != nil {
					return err
				}
				if err := emit(scores); err != nil {
					return err
				}
			}
			eachText(samples[i], func(t prompt.Text) {
				if uses[t].last == i {
					uses[t].values = nil
				}
			})
		}
		start = end
	}
	return nil
}

func eachText(s mteb.Sample, f func(t prompt.Text)) {
	for _, q := range s.Query {
		f(queryOf(s, q))
	}
	for _, part := range [][]string{s.Positive, s.Negative} {
		for _, p := range part {
			f(prompt.Text{Text: p})
		}
	}
}

// queryOf is one of a sample's queries.
func queryOf(s mteb.Sample, query string) prompt.Text {
	return prompt.Text{Query: true, Own: s.Prompt, Text: query}
}

// encode fills in the values of the texts of a block, samples start to end, that no block before it had. Of samples before
// from, only those that later ones share are wanted.
func (b BiEncoder[V]) encode(ctx context.Context, samples []mteb.Sample, start, end, from int, uses map[prompt.Text]*use[V], done func(n int)) error {
	var fresh []prompt.Text
	var sample []int // of each
	needed := false
	for i, s := range samples[start:end] {
		eachText(s, func(t prompt.Text) {
			if u := uses[t]; !u.seen {
				u.seen = true
				fresh, sample = append(fresh, t), append(sample, start+i)
				needed = needed || u.last >= from
			}
		})
	}
	if !needed {
		return nil
	}
	var rows []encoder.Row
	var of []*use[V]
	left := map[*use[V]]int{} // rows that are not encoded yet
	for i, t := range fresh {
		texts, err := b.Rows(t)
		if err != nil {
			return &TextError{sample[i], samples[sample[i]].Origin, err}
		}
		for range texts {
			of = append(of, uses[t])
		}
		left[uses[t]] = len(texts)
		rows = append(rows, texts...)
	}
	values, err := Run(ctx, rows, b.Forward, func(row int) bool { return of[row].last >= from }, func(batch []int) {
		n := 0
		for _, row := range batch {
			if left[of[row]]--; left[of[row]] == 0 && of[row].last >= from {
				n++
			}
		}
		done(n)
	})
	if err != nil {
		return err
	}
	for row, v := range values {
		if of[row].last >= from {
			of[row].values = append(of[row].values, v)
		}
	}
	return nil
}

// sample scores one sample: the best of its queries, the best of a passage's windows.
func (b BiEncoder[V]) sample(s mteb.Sample, uses map[prompt.Text]*use[V]) ([]float32, error) {
	var passages []V
	var of []int
	candidates := s.Candidates()
	for i, p := range candidates {
		for _, v := range uses[prompt.Text{Text: p}].values {
			passages, of = append(passages, v), append(of, i)
		}
	}
	out := worst(len(candidates))
	for _, q := range s.Query {
		scores, err := b.Similarity(uses[queryOf(s, q)].values[0], passages)
		if err != nil {
			return nil, err
		}
		for row, x := range scores {
			raise(out, of[row], x)
		}
	}
	return out, nil
}

// worst are scores that any other is better than.
func worst(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(math.Inf(-1))
	}
	return out
}

// raise keeps the larger score; one that is not a number is passed on.
func raise(scores []float32, i int, x float32) {
	if x > scores[i] || x != x {
		scores[i] = x
	}
}

// CrossEncoder scores samples by pairs of query and passage.
type CrossEncoder struct {
	Rows    func(p Pair) ([]encoder.Row, error) // several: its windows, of which the best one counts
	Forward func(rows []encoder.Row) ([]float32, error)
}

// pairBlock is how many pairs are scored together: enough to find pairs of like length, few enough to lose little to a
// stop.
const pairBlock = 1024

// Score implements mteb.Scorer: pairs of many samples share a batch. Progress is told in pairs.
func (c CrossEncoder) Score(ctx context.Context, samples []mteb.Sample, from int, progress func(done, total int), emit func([]float32) error) error {
	size := func(s mteb.Sample) int { return len(s.Query) * (len(s.Positive) + len(s.Negative)) }
	total, done := 0, 0
	ends := blocks(samples, pairBlock, size)
	start := 0
	for _, end := range ends {
		for _, s := range samples[start:end] {
			if end > from {
				total += size(s)
			}
		}
		start = end
	}
	start = 0
	for _, end := range ends {
		block := samples[start:end]
		if end > from {
			scores, err := c.block(ctx, block, func(n int) { progress(done+n, total) })
			if bad := (*TextError)(nil); errors.As(err, &bad) {
				bad.Index += start
			}
			if err != nil {
				return err
			}
			for i, s := range block {
				done += size(s)
				if start+i < from {
					continue
				}
				if err := emit(scores[i]); err != nil {
					return err
				}
			}
		}
		start = end
	}
	return nil
}

// block scores a block of samples.
func (c CrossEncoder) block(ctx context.Context, samples []mteb.Sample, progress func(done int)) ([][]float32, error) {
	var pairs []Pair
	var of []int // the sample of each
	for i, s := range samples {
		for _, q := range s.Query {
			for _, p := range s.Candidates() {
				pairs, of = append(pairs, Pair{Query: q, Passage: p, Own: s.Prompt}), append(of, i)
			}
		}
	}
	scores, err := c.Pairs(ctx, pairs, progress)
	if bad := (*TextError)(nil); errors.As(err, &bad) {
		i := of[bad.Index]
		return nil, &TextError{i, samples[i].Origin, bad.Err}
	}
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(samples))
	for i, s := range samples {
		n := len(s.Positive) + len(s.Negative)
		for range s.Query {
			out[i], scores = mteb.BestScores(out[i], scores[:n:n]), scores[n:]
		}
	}
	return out, nil
}

// Pairs gives each pair's score. Progress is the number of pairs done.
func (c CrossEncoder) Pairs(ctx context.Context, pairs []Pair, progress func(done int)) ([]float32, error) {
	var rows []encoder.Row
	var of []int                    // the pair of each row
	left := make([]int, len(pairs)) // rows of each pair that are not scored yet
	for i, p := range pairs {
		windows, err := c.Rows(p)
		if err != nil {
			return nil, &TextError{Index: i, Err: err}
		}
		for range windows {
			of = append(of, i)
		}
		rows, left[i] = append(rows, windows...), len(windows)
	}
	done := 0
	logits, err := Run(ctx, rows, c.Forward, nil, func(batch []int) {
		for _, row := range batch {
			if left[of[row]]--; left[of[row]] == 0 {
				done++
			}
		}
		progress(done)
	})
	if err != nil {
		return nil, err
	}
	out := worst(len(pairs))
	for row, x := range logits {
		raise(out, of[row], x)
	}
	return out, nil
}
