package ortrain

import "rag-retrieval-go/ortrain/runtime"

// Array holds the values and the shape of one graph input.
type Array[T runtime.Element] struct {
	Data []T
	Dims []int64
}

// Batch is one micro-batch: every graph input except the parameters.
type Batch struct {
	Ints   map[string]Array[int64]
	Floats map[string]Array[float32]
	// Dims holds the sizes of the graph's named dimensions. Dropout needs them.
	Dims map[string]int64
	// Rows is the weight of the batch's loss in the mean over the micro-batches of a step. If no row counts, it is 0 and
	// the loss is zero.
	Rows int
	// ConstantLoss says that the loss of this batch does not depend on the model, for example because a query has no
	// negatives. The batch then teaches nothing.
	ConstantLoss bool
	// EqualScoresLoss returns the mean loss of the rows under a model that gives all passages the same score, such as log n for a
	// softmax over n passages: what a loss is compared with. It is nil if the loss has no such value.
	EqualScoresLoss func() float64
	// Tokens is the number of tokens without padding, for the throughput shown to the user.
	Tokens int
	// Lengths is the number of tokens of each text without padding, for statistics.
	Lengths []int
	// Large sets inputs that are too large to be kept, such as a matrix of texts and tokens for each of many chunks. Bind calls it.
	Large func(b *Batch)
	// Chunks holds the texts of a batch that is encoded chunk by chunk. The inputs of the batch itself are then only the
	// inputs of the loss, which reads the encoded rows of all chunks in order.
	Chunks []*Batch
	// Comparison says which encoded rows the loss compares, for a model with an artifact.Comparison.
	Comparison *Comparison
	// Origin names the source of each row, such as "pairs.jsonl:7", for messages. It is nil if the sources are not known.
	Origin func() []string
}

// Comparison is what a loss over a matrix of scores, see artifact.Comparison, reads of a batch. The queries are the batch's own.
// The passages are those of all ranks if the job gathers them: each rank's in its own order, rank after rank.
type Comparison struct {
	Queries, Passages Items // the batch's own
	// Bind sets the inputs of the loss of the queries from, …, to-1, numbered in Queries, with all passages. lengths has the
	// number of encoded rows of each of these passages.
	Bind func(loss *Batch, from, to int, lengths []int)
}

// Items are texts, each of which was encoded as one or more rows.
type Items struct {
	Rows    []int64 // the encoded rows of all items, one item after the other, as their places among the batch's encoded rows
	Lengths []int   // the number of rows of each item
}

// NewBatch makes an empty batch.
func NewBatch() *Batch {
	return &Batch{Ints: map[string]Array[int64]{}, Floats: map[string]Array[float32]{}, Dims: map[string]int64{}}
}

// Int sets an int64 input.
func (b *Batch) Int(name string, data []int64, dims ...int64) {
	b.Ints[name] = Array[int64]{data, dims}
}

// Float sets a float32 input.
func (b *Batch) Float(name string, data []float32, dims ...int64) {
	b.Floats[name] = Array[float32]{data, dims}
}

// Zeros returns n zeros for a float32 input. It reuses the array of an earlier batch's input of that name in b.
func (b *Batch) Zeros(name string, n int) []float32 {
	data := b.Floats[name].Data
	if cap(data) < n {
		return make([]float32, n)
	}
	data = data[:n]
	clear(data)
	return data
}

// Bind binds every input of the batch to the binding.
func (b *Batch) Bind(to *runtime.Binding) error {
	if b.Large != nil {
		large := NewBatch()
		b.Large(large)
		if err := large.Bind(to); err != nil {
			return err
		}
	}
	for name, a := range b.Ints {
		if err := to.Ints(name, a.Data, a.Dims...); err != nil {
			return err
		}
	}
	for name, a := range b.Floats {
		if err := to.Floats(name, a.Data, a.Dims...); err != nil {
			return err
		}
	}
	return nil
}
