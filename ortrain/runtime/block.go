package runtime

import (
	"errors"
	"fmt"
	"unsafe"

	"rag-retrieval-go/ortrain/onnx"
)

// Block is a long-lived stretch of float32 in the memory that a provider computes in. Views of it are bound to graphs.
type Block struct {
	n      int
	host   *Buffer // on the host; nil on a device
	device *Device
	p      unsafe.Pointer
}

// NewBlock takes n zeros of the device's memory; of the host's where d is nil.
func (d *Device) NewBlock(n int) (*Block, error) {
	if d == nil {
		host, err := NewBuffer(n)
		return &Block{n: n, host: host}, err
	}
	b := &Block{n: n, device: d}
	if n == 0 {
		return b, nil
	}
	var err error
	if b.p, err = d.alloc(n); err != nil {
		return nil, err
	}
	zeros := make([]float32, min(n, copied))
	for at := 0; at < n; at += copied {
		if err := b.Upload(at, zeros[:min(copied, n-at)]); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// Len is the number of elements.
func (b *Block) Len() int { return b.n }

// Host is the block's memory where that is the host's, and nil where it is not.
func (b *Block) Host() []float32 {
	if b.host == nil {
		return nil
	}
	return b.host.Data
}

// View is a tensor over the elements from offset on. The caller closes it.
func (b *Block) View(offset int64, dims ...int64) (*Tensor, error) {
	if end := offset + onnx.Elements(dims); offset < 0 || end > int64(b.n) {
		return nil, fmt.Errorf("elements %d to %d of a block of %d", offset, end, b.n)
	}
	if b.host != nil {
		return NewTensor(b.host.Data[offset:offset+onnx.Elements(dims)], dims...)
	}
	return b.device.tensor(unsafe.Add(b.p, 4*offset), dims)
}

// Upload copies values to the block, from offset on.
func (b *Block) Upload(offset int, values []float32) error {
	return b.move(offset, values, func(part []float32, view *Tensor) error {
		c := b.device.copy
		return errors.Join(c.Floats("from", part, int64(len(part))), c.Output("to", view))
	}, func(to, from []float32) { copy(from, to) })
}

// Download copies the block's elements from offset on into values.
func (b *Block) Download(offset int, values []float32) error {
	return b.move(offset, values, func(part []float32, view *Tensor) error {
		c := b.device.copy
		return errors.Join(c.Input("from", view), c.OutputFloats("to", part, int64(len(part))))
	}, func(to, from []float32) { copy(to, from) })
}

// move copies between values and the block: on the host by direct, on a device by the graph that copies, on what bind binds.
func (b *Block) move(offset int, values []float32, bind func(part []float32, view *Tensor) error, direct func(values, block []float32)) error {
	if offset < 0 || offset+len(values) > b.n {
		return fmt.Errorf("elements %d to %d of a block of %d", offset, offset+len(values), b.n)
	}
	if b.host != nil {
		direct(values, b.host.Data[offset:offset+len(values)])
		return nil
	}
	for len(values) > 0 {
		part := values[:min(copied, len(values))]
		view, err := b.View(int64(offset), int64(len(part)))
		if err != nil {
			return err
		}
		err = bind(part, view)
		if err == nil {
			err = b.device.copy.Run()
		}
		if err = errors.Join(err, view.Close()); err != nil {
			return fmt.Errorf("copying %d MiB: %w", 4*len(part)>>20, err)
		}
		values, offset = values[len(part):], offset+len(part)
	}
	return nil
}

// Close frees the memory; no view of it may be used afterwards.
func (b *Block) Close() error {
	switch {
	case b == nil:
		return nil
	case b.host != nil:
		return b.host.Close()
	case b.p == nil:
		return nil
	}
	err := b.device.free(b.p)
	b.p = nil
	return err
}
