package runtime

import (
	"errors"
	"fmt"
	"unsafe"

	"rag-retrieval-go/ortrain/onnx"
)

// Block is a long-lived array of float32 in the memory of a device. Views of it are bound to graphs.
type Block struct {
	n      int
	host   *Buffer // nil if the block is in device memory
	device *Device
	p      unsafe.Pointer
}

// NewBlock allocates n zeros in the device's memory, or in host memory if d is nil.
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
	zeros := make([]float32, min(n, maxCopy))
	for at := 0; at < n; at += maxCopy {
		if err := b.Upload(at, zeros[:min(maxCopy, n-at)]); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// Len is the number of elements.
func (b *Block) Len() int { return b.n }

// Host returns the elements of a block in host memory, and nil for a block in device memory. Changing them changes the
// block.
func (b *Block) Host() []float32 {
	if b.host == nil {
		return nil
	}
	return b.host.Data
}

// View returns a tensor of shape dims over the elements from offset on. The caller closes it.
func (b *Block) View(offset int64, dims ...int64) (*Tensor, error) {
	if end := offset + onnx.Elements(dims); offset < 0 || end > int64(b.n) {
		return nil, fmt.Errorf("elements %d to %d of a block of %d elements", offset, end, b.n)
	}
	if b.host != nil {
		return NewTensor(b.host.Data[offset:offset+onnx.Elements(dims)], dims...)
	}
	return b.device.tensor(unsafe.Add(b.p, 4*offset), dims)
}

// Upload copies values to the block, from offset on.
func (b *Block) Upload(offset int, values []float32) error {
	return b.transfer(offset, values, func(part []float32, view *Tensor) error {
		c := b.device.copyBinding
		return errors.Join(c.Floats("from", part, int64(len(part))), c.Output("to", view))
	}, func(to, from []float32) { copy(from, to) })
}

// Download copies the block's elements from offset on into values.
func (b *Block) Download(offset int, values []float32) error {
	return b.transfer(offset, values, func(part []float32, view *Tensor) error {
		c := b.device.copyBinding
		return errors.Join(c.Input("from", view), c.OutputFloats("to", part, int64(len(part))))
	}, func(to, from []float32) { copy(to, from) })
}

// transfer copies between values and the block. In host memory it calls direct. In device memory it runs the copy graph,
// with the input and output that bind binds.
func (b *Block) transfer(offset int, values []float32, bind func(part []float32, view *Tensor) error, direct func(values, block []float32)) error {
	if offset < 0 || offset+len(values) > b.n {
		return fmt.Errorf("elements %d to %d of a block of %d elements", offset, offset+len(values), b.n)
	}
	if b.host != nil {
		direct(values, b.host.Data[offset:offset+len(values)])
		return nil
	}
	for len(values) > 0 {
		part := values[:min(maxCopy, len(values))]
		view, err := b.View(int64(offset), int64(len(part)))
		if err != nil {
			return err
		}
		err = bind(part, view)
		if err == nil {
			err = b.device.copyBinding.Run()
		}
		if err = errors.Join(err, view.Close()); err != nil {
			return fmt.Errorf("copying %d MiB: %w", 4*len(part)>>20, err)
		}
		values, offset = values[len(part):], offset+len(part)
	}
	return nil
}

// Close frees the memory. Views of it must not be used afterwards.
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
