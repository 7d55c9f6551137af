package data

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"rag-retrieval-go/models/prompt"
	"rag-retrieval-go/ortrain"
)

// Batching holds the settings for forming batches.
type Batching struct {
	BatchSize    int // examples of a micro-batch, of each rank
	Accumulation int // micro-batches of a step
	// MinBatch is how many examples a micro-batch needs to teach anything. A smaller last micro-batch of an epoch is
	// dropped.
	MinBatch int
	Shuffle  bool
	Seed     uint64
	// ShuffleRate is the probability that the text of a long passage is shuffled; see Row.shuffled.
	ShuffleRate float64
	// Rank and Ranks divide every micro-batch of a job of several ranks: each rank gets a contiguous part. Ranks is 0 or 1 for
	// one rank.
	Rank, Ranks int
	// Gather is for a loss that compares the examples of all ranks: every rank then knows of all examples, and gets as many
	// micro-batches as the others, even if it has no example of its own in one.
	Gather bool
}

// Batch is what a collate function makes a micro-batch of.
type Batch struct {
	Epoch    int
	Examples []Example // those of all ranks if Batching.Gather is set, otherwise this rank's
	From, To int       // this rank's examples are Examples[From:To]
}

// WholeBatch returns a batch of examples that are all this rank's.
func WholeBatch(epoch int, examples []Example) Batch { return Batch{epoch, examples, 0, len(examples)} }

// Own returns this rank's examples.
func (b Batch) Own() []Example { return b.Examples[b.From:b.To] }

// jobBatch is the number of examples of a micro-batch of all ranks.
func (b Batching) jobBatch() int { return b.BatchSize * max(b.Ranks, 1) }

// MinJobBatch is MinBatch for a micro-batch of all ranks. Each rank needs that many examples, unless one teaches something or
// examples are compared with those of other ranks: then some ranks may have none.
func (b Batching) MinJobBatch() int {
	if b.MinBatch <= 1 || b.Gather {
		return b.MinBatch
	}
	return b.MinBatch * max(b.Ranks, 1)
}

// part returns the examples of micro-batch i that are this rank's, of so many in an epoch. Of a last micro-batch that is not
// full, every rank gets about as many.
func (b Batching) part(i, total int) (from, to int) {
	start := i * b.jobBatch()
	n, ranks := min(b.jobBatch(), total-start), max(b.Ranks, 1)
	return start + n*b.Rank/ranks, start + n*(b.Rank+1)/ranks
}

// StepsPerEpoch returns the number of optimizer steps of one pass over the data. The last step may have fewer micro-batches
// than the others, and the last micro-batch fewer examples.
func (b Batching) StepsPerEpoch(examples int) int {
	micro := b.microBatches(examples)
	return (micro + b.Accumulation - 1) / b.Accumulation
}

func (b Batching) microBatches(examples int) int {
	n := examples / b.jobBatch()
	if rest := examples % b.jobBatch(); rest > 0 && (rest >= b.MinJobBatch() || n == 0) {
		n++
	}
	return n
}

// Source returns the batches of every step. They depend only on the step, so that a resumed run sees the same batches.
// collate makes the micro-batches of a batch of examples.
func (d *Dataset) Source(b Batching, collate func(b Batch) ([]*ortrain.Batch, error)) ortrain.Source {
	s := &source{d, b, collate}
	return s.step
}

// ExampleError is an error of one example, such as an error of tokenization.
type ExampleError struct {
	Number int // in the data set
	Err    error
}

func (e *ExampleError) Error() string { return fmt.Sprintf("example %d: %v", e.Number+1, e.Err) }

func (e *ExampleError) Unwrap() error { return e.Err }

// Text is a text of an example.
type Text struct {
	prompt.Text
	Example int // the example's number in the data set
}

// Strings returns the texts with their rows' own prompts, to find out which are equal.
func Strings(texts []Text) []string {
	out := make([]string, len(texts))
	for i, x := range texts {
		out[i] = x.Prompt + x.Text.Text
	}
	return out
}

// MapTexts calls f for each text and returns the results, such as the texts' tokens. Its error is an *ExampleError.
func MapTexts[R any](texts []Text, f func(x prompt.Text) (R, error)) ([]R, error) {
	out := make([]R, len(texts))
	for i, x := range texts {
		var err error
		if out[i], err = f(x.Text); err != nil {
			return nil, &ExampleError{x.Example, err}
		}
	}
	return out, nil
}

type source struct {
	d       *Dataset
	b       Batching
	collate func(b Batch) ([]*ortrain.Batch, error)
}

func (s *source) step(step int) ([]*ortrain.Batch, error) {
	perEpoch := s.b.StepsPerEpoch(s.d.EpochLen())
	epoch, within := step/perEpoch, step%perEpoch
	shuffled := newPermutation(s.d.EpochLen(), s.b.Seed, uint64(epoch))
	var out []*ortrain.Batch
	micro := s.b.microBatches(s.d.EpochLen())
	for i := within * s.b.Accumulation; i < min((within+1)*s.b.Accumulation, micro); i++ {
		batch, err := s.batch(i, epoch, shuffled)
		if err != nil {
			return nil, err
		}
		if len(batch.Examples) == 0 { // there are fewer than ranks
			continue
		}
		b, err := s.collate(batch)
		if bad := (*ExampleError)(nil); errors.As(err, &bad) {
			err = fmt.Errorf("%s: %w", s.d.Location(bad.Number), bad.Err)
		}
		if err != nil {
			return nil, err
		}
		for _, micro := range b {
			micro.Origin = func() []string { return s.d.origin(batch.Own()) }
		}
		out = append(out, b...)
	}
	return out, nil
}

// batch returns the examples of micro-batch i of an epoch.
func (s *source) batch(i, epoch int, shuffled permutation) (Batch, error) {
	total := s.d.EpochLen()
	from, to := s.b.part(i, total)
	b := Batch{Epoch: epoch, To: to - from}
	if s.b.Gather {
		start := i * s.b.jobBatch()
		b.From, b.To = from-start, to-start
		from, to = start, min(start+s.b.jobBatch(), total)
	}
	for k := from; k < to; k++ {
		at := k
		if s.b.Shuffle {
			at = shuffled.at(k)
		}
		e, err := s.d.Example(s.d.unshuffledExample(at, s.b.Seed, epoch))
		if err != nil {
			return b, err
		}
		e.Row = e.Row.shuffled(s.b.ShuffleRate, s.b.Seed, e.Number, epoch)
		b.Examples = append(b.Examples, e)
	}
	return b, nil
}

// Draw picks n random elements of from for an example, different ones each epoch. An element is picked twice only if there
// are fewer than n.
func Draw[T any](seed uint64, example, epoch, n int, from []T) []T {
	if n == 0 || len(from) == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(seed^uint64(example)<<20, uint64(epoch)))
	var out []T
	for len(out) < n {
		for _, i := range rng.Perm(len(from)) {
			if len(out) < n {
				out = append(out, from[i])
			}
		}
	}
	return out
}
