package runtime

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Kept are outputs of a graph that stay where they were computed, for another graph to read: activations, from the forward to the
// backward pass. Their memory is ONNX Runtime's own.
type Kept struct {
	names []*C.char
	none  *Tensor // takes the place of an input that is not needed any more
}

// NewKept names outputs of one graph that are inputs of another.
func NewKept(names []string) (*Kept, error) {
	none, err := NewTensor([]float32{0}, 1)
	k := &Kept{none: none}
	for _, n := range names {
		k.names = append(k.names, C.CString(n))
	}
	return k, err
}

// Keep makes the next run of from keep the outputs. They come after skip other outputs that are bound already.
func (k *Kept) Keep(from *Binding) error {
	d, err := from.memory()
	for _, n := range k.names {
		if err == nil {
			err = nativeError(C.rr_keep(d, firstPointer(unsafe.Pointer(from.b)), n))
		}
	}
	return err
}

// Pass binds the outputs that the last run of from kept as inputs of to.
func (k *Kept) Pass(from *Binding, skip int, to *Binding) error {
	if len(k.names) == 0 {
		return nil
	}
	d, err := from.memory()
	if err != nil {
		return err
	}
	return nativeError(C.rr_pass(d, firstPointer(unsafe.Pointer(from.b)), C.size_t(skip), firstPointer(unsafe.Pointer(to.b)), &k.names[0], C.size_t(len(k.names))))
}

// Free lets go of the values that were passed. from has no outputs afterwards.
func (k *Kept) Free(from, to *Binding) error {
	from.b.ClearBoundOutputs()
	var errs []error
	for _, n := range k.names {
		errs = append(errs, to.b.BindInput(C.GoString(n), k.none.v))
	}
	return errors.Join(errs...)
}

// Close frees the names.
func (k *Kept) Close() error {
	if k == nil {
		return nil
	}
	for _, n := range k.names {
		C.free(unsafe.Pointer(n))
	}
	k.names = nil
	return k.none.Close()
}

// memory returns the memory that the session of the binding computes in.
func (b *Binding) memory() (*C.rr_device, error) {
	if d := b.session.device; d != nil {
		native := d.native // apart from the Device, whose Go pointers C must not see
		return &native, nil
	}
	return libraryInterface()
}
