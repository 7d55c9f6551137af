package ortrain

import (
	"errors"
	"fmt"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// chunks trains batches larger than memory, see artifact.Chunks. It holds what all chunks of a batch encode to.
type chunks struct {
	set                               *artifact.Chunks
	encode, compare, backwards        *runtime.Session
	encoding, comparing, backwardPass *runtime.Binding
	encoded, gradients                *runtime.Block // of at least a batch's rows
}

func openChunks(t *Trainer) (*chunks, error) {
	c := &chunks{set: t.set.Chunks}
	if err := c.open(t); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *chunks) open(t *Trainer) (err error) {
	if c.encode, c.encoding, err = t.session(c.set.Encode, t.options()); err != nil {
		return err
	}
	o := t.options()
	o.Profile = t.cfg.Profile
	if c.backwards, c.backwardPass, err = t.session(c.set.Backward, o); err != nil {
		return err
	}
	if err = t.bindGradients(c.backwardPass); err != nil {
		return err
	}
	if c.compare, err = runtime.NewSession(c.set.Loss, t.options()); err != nil {
		return err
	}
	if c.comparing, err = c.compare.NewBinding(); err != nil {
		return err
	}
	return c.comparing.Output(artifact.LossOutput, &t.loss.Tensor)
}

// maxMicroBatches bounds the micro-batches of a step, so that the random maxMicroBatches of (micro-batch, chunk) pairs never collide.
const maxMicroBatches = 1 << 20

// loss encodes the chunks of micro-batch number stream and compares them; the gradients of the encoded rows are filled.
func (c *chunks) loss(t *Trainer, b *Batch, stream int, drop bool) (float64, error) {
	rows, width := c.rows(b), onnx.Elements(c.set.Width)
	if err := errors.Join(c.reserve(t, &c.encoded, rows*width), c.reserve(t, &c.gradients, rows*width)); err != nil {
		return 0, err
	}
	err := c.each(b, func(k int, chunk *Batch, dims []int64, at int64) error {
		if err := c.bind(t, c.encoding, chunk, stream+k*maxMicroBatches, drop); err != nil {
			return err
		}
		if err := c.encoding.OutputView(artifact.EncodedValue, c.encoded, at, dims...); err != nil {
			return err
		}
		return c.encoding.Run()
	})
	if err != nil {
		return 0, err
	}
	all := append([]int64{rows}, c.set.Width...)
	if err := errors.Join(b.Bind(c.comparing), t.bindScale(c.comparing)); err != nil {
		return 0, err
	}
	if err := c.comparing.View(artifact.EncodedValue, c.encoded, 0, all...); err != nil {
		return 0, err
	}
	if err := c.comparing.OutputView(artifact.EncodedValue+artifact.GradientSuffix, c.gradients, 0, all...); err != nil {
		return 0, err
	}
	if err := c.comparing.Run(); err != nil {
		return 0, fmt.Errorf("the loss of %d rows: %w", rows, err)
	}
	return float64(t.loss.Value()), nil
}

// rows counts what a batch's chunks encode to.
func (c *chunks) rows(b *Batch) int64 {
	n := int64(0)
	for _, chunk := range b.Chunks {
		n += chunk.Dims[c.set.Rows]
	}
	return n
}

// backward adds the gradients of one micro-batch, times its share of the step, to the step's and gives its loss.
func (c *chunks) backward(t *Trainer, b *Batch, stream int, share float64) (float64, error) {
	loss, err := c.loss(t, b, stream, true)
	if err != nil {
		return 0, err
	}
	return loss, c.each(b, func(k int, chunk *Batch, dims []int64, at int64) error {
		if err := c.bind(t, c.backwardPass, chunk, stream+k*maxMicroBatches, true); err != nil {
			return err
		}
		name := artifact.EncodedValue + artifact.GradientSuffix
		if err := c.backwardPass.View(name, c.gradients, at, dims...); err != nil {
			return err
		}
		if err := c.backwardPass.Run(); err != nil {
			return err
		}
		return t.optimizer.accumulate(t, stream == 0 && k == 0, share)
	})
}

// each visits the chunks with the shape of what they encode to and its place among all.
func (c *chunks) each(b *Batch, f func(k int, chunk *Batch, dims []int64, at int64) error) error {
	width := onnx.Elements(c.set.Width)
	at := int64(0)
	for k, chunk := range b.Chunks {
		rows := chunk.Dims[c.set.Rows]
		if err := f(k, chunk, append([]int64{rows}, c.set.Width...), at); err != nil {
			return fmt.Errorf("chunk %d of %d: %w", k+1, len(b.Chunks), err)
		}
		at += rows * width
	}
	return nil
}

// bind binds a chunk's texts. Both passes of a chunk are given the same stream, and so the same dropout factors.
func (c *chunks) bind(t *Trainer, to *runtime.Binding, chunk *Batch, stream int, drop bool) error {
	if err := t.bindDropout(to, c.set.Dropout, stream, chunk.Dims, drop); err != nil {
		return err
	}
	return chunk.Bind(to)
}

// reserve makes a block hold n elements at least. What it held is lost.
func (c *chunks) reserve(t *Trainer, b **runtime.Block, n int64) error {
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
	return errors.Join(c.encoding.Close(), c.comparing.Close(), c.backwardPass.Close(),
		c.encode.Close(), c.compare.Close(), c.backwards.Close(), c.encoded.Close(), c.gradients.Close())
}
