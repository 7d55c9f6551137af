package ortrain

import (
	"errors"
	"fmt"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// chunks trains batches that are too large to encode at once; see artifact.Chunks. It holds the encoded rows of all chunks
// of a batch, and their gradients.
type chunks struct {
	graphs                                      *artifact.Chunks
	encodeSession, lossSession, backwardSession *runtime.Session
	encodeBinding, lossBinding, backwardBinding *runtime.Binding
	exactSession                                *runtime.Session // encodes in float32 for EvalLoss, where training is in bfloat16; only during a validation
	exactBinding                                *runtime.Binding
	comparison                                  *comparison    // computes the loss in place of lossSession; nil without artifact.Comparison
	encoded, encodedGradients                   *runtime.Block // with room for the rows of one batch or more
	kept                                        *runtime.Kept  // what the backward pass reads of the forward pass; nil if it encodes again
}

func openChunks(t *Trainer) (*chunks, error) {
	c := &chunks{graphs: t.set.Chunks}
	if err := c.open(t); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *chunks) open(t *Trainer) (err error) {
	if c.encodeSession, c.encodeBinding, err = t.openSession(c.graphs.Encode, t.trainingOptions()); err != nil {
		return err
	}
	o := t.trainingOptions()
	o.Profile = t.cfg.Profile
	if c.backwardSession, c.backwardBinding, err = t.openSession(c.graphs.Backward, o); err != nil {
		return err
	}
	if err = t.bindGradients(c.backwardBinding); err != nil {
		return err
	}
	if c.graphs.Kept != nil {
		if c.kept, err = runtime.NewKept(c.graphs.Kept); err != nil {
			return err
		}
	}
	if c.graphs.Compare != nil {
		c.comparison, err = openComparison(t)
		return err
	}
	if c.lossSession, err = runtime.NewSession(c.graphs.Loss, t.exactOptions()); err != nil {
		return err
	}
	if c.lossBinding, err = c.lossSession.NewBinding(); err != nil {
		return err
	}
	return c.lossBinding.Output(artifact.LossOutput, &t.loss.Tensor)
}

// maxMicroBatches is more than the micro-batches of any step.
const maxMicroBatches = 1 << 20

// passNumber numbers the forward passes of a step: each chunk of each micro-batch has its own, and so its own dropout mask.
// The backward pass of a chunk uses the number of its forward pass, which gives it the same mask.
func passNumber(microBatch, chunk int) int { return microBatch + chunk*maxMicroBatches }

// forward encodes the chunks of a micro-batch, then computes the sum of the losses of its rows, divided by total, and the gradient
// of this sum over all ranks in comm with respect to the encoded rows.
func (c *chunks) forward(t *Trainer, comm dist.Comm, b *Batch, microBatch int, drop bool, total int) (float64, error) {
	err := c.encode(t, b, microBatch, drop)
	if c.comparison != nil {
		return c.comparison.run(t, comm, b, c.encoded, c.encodedGradients, total, err)
	}
	if err != nil {
		return 0, err
	}
	loss, err := c.lossOfRows(t, b)
	return loss * rowShare(b, total), err
}

// rowShare is the weight of a micro-batch in the mean over so many rows.
func rowShare(b *Batch, total int) float64 { return float64(b.Rows) / float64(total) }

// encode encodes the chunks of a micro-batch.
func (c *chunks) encode(t *Trainer, b *Batch, microBatch int, drop bool) error {
	if c.kept != nil && drop && len(b.Chunks) > 1 {
		return fmt.Errorf("a batch of %d chunks: the forward pass keeps its activations for the backward pass of one only", len(b.Chunks))
	}
	n := c.encodedRows(b) * onnx.Elements(c.graphs.Width)
	if err := errors.Join(reserve(t, &c.encoded, n), reserve(t, &c.encodedGradients, n)); err != nil {
		return err
	}
	encode, err := c.encoder(t, drop)
	if err != nil {
		return err
	}
	return c.eachChunk(b, func(k int, chunk *Batch, dims []int64, at int64) error {
		if err := c.bind(t, encode, chunk, passNumber(microBatch, k), drop); err != nil {
			return err
		}
		if err := encode.OutputView(artifact.EncodedValue, c.encoded, at, dims...); err != nil {
			return err
		}
		if c.kept != nil && drop { // drop: a backward pass follows
			if err := c.kept.Keep(encode); err != nil {
				return err
			}
		}
		return t.runGraph(encode)
	})
}

// encoder is the encoder's binding: for training, or in float32 for a validation. Training closes what a validation before it opened: opening
// it again costs less than its memory would, since validations are few.
func (c *chunks) encoder(t *Trainer, training bool) (*runtime.Binding, error) {
	if training {
		return c.encodeBinding, c.closeExact()
	}
	if t.cfg.Session.BF16 == kernels.None {
		return c.encodeBinding, nil
	}
	if c.exactSession == nil {
		var err error
		if c.exactSession, c.exactBinding, err = t.openSession(c.graphs.Encode, t.exactOptions()); err != nil {
			return nil, err
		}
	}
	return c.exactBinding, nil
}

func (c *chunks) closeExact() error {
	err := errors.Join(c.exactBinding.Close(), c.exactSession.Close())
	c.exactBinding, c.exactSession = nil, nil
	return err
}

// lossOfRows computes the loss of a micro-batch and its gradient with respect to the encoded rows.
func (c *chunks) lossOfRows(t *Trainer, b *Batch) (float64, error) {
	rows := c.encodedRows(b)
	all := append([]int64{rows}, c.graphs.Width...)
	if err := errors.Join(b.Bind(c.lossBinding), t.bindScale(c.lossBinding)); err != nil {
		return 0, err
	}
	if err := c.lossBinding.View(artifact.EncodedValue, c.encoded, 0, all...); err != nil {
		return 0, err
	}
	if err := c.lossBinding.OutputView(artifact.EncodedValue+artifact.GradientSuffix, c.encodedGradients, 0, all...); err != nil {
		return 0, err
	}
	if err := t.runGraph(c.lossBinding); err != nil {
		return 0, fmt.Errorf("the loss of %d rows: %w", rows, err)
	}
	return float64(t.loss.Value()), nil
}

// encodedRows is the number of encoded rows of all chunks of a batch.
func (c *chunks) encodedRows(b *Batch) int64 {
	n := int64(0)
	for _, chunk := range b.Chunks {
		n += chunk.Dims[c.graphs.Rows]
	}
	return n
}

// backward adds the parameters' gradients of one micro-batch, times its share of the step's total rows, to the step's sum. It
// returns the loss of the micro-batch, times its share. If only says that the step has no other micro-batch, and nothing has to be
// added up, the gradients stay in t.gradients.
func (c *chunks) backward(t *Trainer, b *Batch, microBatch int, total int, only bool) (float64, error) {
	loss, err := c.forward(t, t.gathering(), b, microBatch, true, total)
	if err == nil {
		err = c.continueBackward(t, b, microBatch, total, only)
	}
	// Ranks that gather agree here too: the others would meet an error of this rank in the next micro-batch, elsewhere than this one.
	return loss, dist.Agree(t.gathering(), err)
}

// continueBackward continues the gradient of the encoded rows to the parameters.
func (c *chunks) continueBackward(t *Trainer, b *Batch, microBatch int, total int, only bool) error {
	weight := 1.0 // a comparison's gradients have their share already
	if c.comparison == nil {
		weight = rowShare(b, total)
	}
	return c.eachChunk(b, func(k int, chunk *Batch, dims []int64, at int64) error {
		if err := c.bind(t, c.backwardBinding, chunk, passNumber(microBatch, k), true); err != nil {
			return err
		}
		name := artifact.EncodedValue + artifact.GradientSuffix
		if err := c.backwardBinding.View(name, c.encodedGradients, at, dims...); err != nil {
			return err
		}
		if err := c.runBackward(t); err != nil {
			return err
		}
		if only && len(b.Chunks) == 1 && weight == 1 {
			t.sum = t.gradients
			return nil
		}
		return t.optimizer.accumulate(t, weight)
	})
}

// runBackward runs the backward pass of a chunk, and frees what the forward pass kept.
func (c *chunks) runBackward(t *Trainer) error {
	if c.kept == nil {
		return t.runGraph(c.backwardBinding)
	}
	err := c.kept.Pass(c.encodeBinding, 1, c.backwardBinding) // 1: the encoded rows
	if err == nil {
		err = t.runGraph(c.backwardBinding)
	}
	return errors.Join(err, c.kept.Free(c.encodeBinding, c.backwardBinding))
}

// eachChunk calls f for each chunk k of a batch. dims is the shape of the chunk's encoded rows; at is their offset, in
// elements, among the encoded rows of the batch.
func (c *chunks) eachChunk(b *Batch, f func(k int, chunk *Batch, dims []int64, at int64) error) error {
	width := onnx.Elements(c.graphs.Width)
	at := int64(0)
	for k, chunk := range b.Chunks {
		rows := chunk.Dims[c.graphs.Rows]
		if err := f(k, chunk, append([]int64{rows}, c.graphs.Width...), at); err != nil {
			return fmt.Errorf("chunk %d of %d: %w", k+1, len(b.Chunks), err)
		}
		at += rows * width
	}
	return nil
}

// bind binds the inputs of a chunk and its dropout factors.
func (c *chunks) bind(t *Trainer, to *runtime.Binding, chunk *Batch, pass int, drop bool) error {
	if err := t.bindDropout(to, c.graphs.Dropout, pass, chunk.Dims, drop); err != nil {
		return err
	}
	return chunk.Bind(to)
}

// reserve replaces a block of fewer than n elements by a larger one. Its values are lost.
func reserve(t *Trainer, b **runtime.Block, n int64) error {
	if *b != nil && int64((*b).Len()) >= n {
		return nil
	}
	err := (*b).Close()
	*b = nil
	if err != nil {
		return err
	}
	*b, err = t.device().NewBlock(int(n))
	return err
}

// Close frees all native memory.
func (c *chunks) Close() error {
	if c == nil {
		return nil
	}
	return errors.Join(c.comparison.Close(), c.kept.Close(), c.encodeBinding.Close(), c.closeExact(), c.lossBinding.Close(), c.backwardBinding.Close(),
		c.encodeSession.Close(), c.lossSession.Close(), c.backwardSession.Close(), c.encoded.Close(), c.encodedGradients.Close())
}
