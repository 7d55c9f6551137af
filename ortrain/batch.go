package ortrain

import "rag-retrieval-go/ortrain/runtime"

// Array is a tensor on its way to a graph input.
type Array[T runtime.Element] struct {
	Data []T
	Dims []int64
}

// Batch is everything a graph reads besides its parameters: one micro-batch, ready to bind.
type Batch struct {
	Ints   map[string]Array[int64]
	Floats map[string]Array[float32]
	// Dims are the sizes of the graph's named dimensions, for dropout.
	Dims map[string]int64
	// Rows weighs the batch's loss among the micro-batches of a step. It is 0 where no row counts: its loss is zero.
	Rows int
	// Idle says that the loss has nothing to tell apart in this batch: it does not depend on the model.
	Idle bool
	// Tokens counts real tokens, for the throughput that is shown.
	Tokens int
	// Lengths are the real tokens of each text, for statistics.
	Lengths []int
	// Chunks are the texts of a batch that is encoded piece by piece; its other inputs are then the loss's alone, and
	// read the encoded rows of the chunks laid end to end.
	Chunks []*Batch
	// Origin says where the rows come from, such as "pairs.jsonl:7", for messages; nil: not known.
	Origin func() []string
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

// Bind binds every input of the batch.
func (b *Batch) Bind(to *runtime.Binding) error {
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
