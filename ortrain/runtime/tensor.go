package runtime

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/unix"
)

// Element is a type of tensor element that hosts exchange with graphs.
type Element interface{ float32 | float64 | int64 }

// Tensor is memory of this process seen by ONNX Runtime as a tensor. It must be closed.
type Tensor struct {
	v ort.Value
}

// openTensors counts the tensors that are not closed yet.
var openTensors atomic.Int64

// OpenTensors is how many tensors of this process are not closed: ONNX Runtime's memory, which no collector frees. Tests
// hold it constant over many steps.
func OpenTensors() int64 { return openTensors.Load() }

func newTensor(v ort.Value) *Tensor {
	openTensors.Add(1)
	return &Tensor{v}
}

// NewTensor makes a tensor over data, which it neither copies nor owns. It has at least one dimension; see NewScalar.
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

// Scalar is a tensor without dimensions, such as a loss. The binding library keeps its memory.
type Scalar[T Element] struct {
	Tensor
	s *ort.Scalar[T]
}

// NewScalar makes a scalar of value zero.
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

// Value is what the last run wrote.
func (s *Scalar[T]) Value() T { return s.s.GetData() }

// Close frees the tensor, not its memory.
func (t *Tensor) Close() error {
	if t == nil || t.v == nil {
		return nil
	}
	err := t.v.Destroy()
	t.v = nil
	openTensors.Add(-1)
	return err
}

// Buffer is a long-lived block of float32 outside Go's heap: page-aligned, zeroed, and free of the garbage
// collector's attention.
type Buffer struct {
	Data []float32
	raw  []byte
}

// NewBuffer allocates n zeros. Pages that are never written take no memory.
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

// Close frees the memory; no tensor over it may be used afterwards.
func (b *Buffer) Close() error {
	if b == nil || b.raw == nil {
		return nil
	}
	err := unix.Munmap(b.raw)
	b.Data, b.raw = nil, nil
	return err
}
