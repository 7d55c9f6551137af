package runtime

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/unix"
)

// Element is the Go type of a tensor's elements.
type Element interface{ float32 | float64 | int64 }

// Tensor is a tensor of ONNX Runtime over memory that it does not own. It must be closed.
type Tensor struct {
	v ort.Value
}

// openTensors counts the tensors that are not closed yet.
var openTensors atomic.Int64

// OpenTensors returns the number of tensors that are not closed. The garbage collector does not free them. Tests check that
// the number stays constant over many steps.
func OpenTensors() int64 { return openTensors.Load() }

func newTensor(v ort.Value) *Tensor {
	openTensors.Add(1)
	return &Tensor{v}
}

// NewTensor makes a tensor of shape dims over data, without a copy. There must be at least one dimension; see NewScalar.
func NewTensor[T Element](data []T, dims ...int64) (*Tensor, error) {
	count := int64(1)
	for _, d := range dims {
		count *= d
	}
	if count != int64(len(data)) || len(dims) == 0 {
		return nil, fmt.Errorf("%d elements for a tensor of shape %v", len(data), dims)
	}
	v, err := ort.NewTensor(ort.Shape(dims), data)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime tensor of shape %v: %w", dims, err)
	}
	return newTensor(v), nil
}

// Scalar is a tensor without dimensions, such as a loss. onnxruntime_go holds its memory.
type Scalar[T Element] struct {
	Tensor
	s *ort.Scalar[T]
}

// NewScalar makes a scalar with the value zero.
func NewScalar[T Element]() (*Scalar[T], error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	s, err := ort.NewEmptyScalar[T]()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime scalar: %w", err)
	}
	return &Scalar[T]{*newTensor(s), s}, nil
}

// Value returns the value that the last run wrote.
func (s *Scalar[T]) Value() T { return s.s.GetData() }

// Close frees the tensor, but not the memory of its elements.
func (t *Tensor) Close() error {
	if t == nil || t.v == nil {
		return nil
	}
	err := t.v.Destroy()
	t.v = nil
	openTensors.Add(-1)
	return err
}

// Buffer is a long-lived array of float32 outside Go's heap. It is page-aligned, and the garbage collector ignores it.
type Buffer struct {
	Data []float32
	raw  []byte
}

// NewBuffer allocates n zeros. A page takes up memory only once it is written.
func NewBuffer(n int) (*Buffer, error) {
	if n <= 0 {
		return &Buffer{}, nil
	}
	raw, err := unix.Mmap(-1, 0, 4*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("allocating %d MiB: %w", 4*n>>20, err)
	}
	return &Buffer{Data: unsafe.Slice((*float32)(unsafe.Pointer(&raw[0])), n), raw: raw}, nil
}

// Discard gives the memory back to the system, but keeps the addresses: all elements are zeros afterwards.
func (b *Buffer) Discard() {
	if len(b.raw) > 0 {
		_ = unix.Madvise(b.raw, unix.MADV_DONTNEED) // only advice: Close will free it
	}
}

// Close frees the memory. Tensors over it must not be used afterwards.
func (b *Buffer) Close() error {
	if b == nil || b.raw == nil {
		return nil
	}
	err := unix.Munmap(b.raw)
	b.Data, b.raw = nil, nil
	return err
}
