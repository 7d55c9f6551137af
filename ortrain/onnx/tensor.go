package onnx

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/x448/float16"
)

// Tensor is the contents of a constant: little-endian elements in row-major order.
type Tensor struct {
	DType DType
	Dims  []int64
	Raw   []byte
	// File is where the elements are if they are in a file. Raw is nil then.
	File *FileRange
}

// FileRange is the place in a file where a tensor's elements begin.
type FileRange struct {
	Path   string // absolute, without symbolic links
	Offset int64  // in bytes
}

// Elements returns the number of elements of a tensor, the product of its dimensions.
func Elements(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

// Floats returns a float32 tensor with these elements. Without dims it is a scalar.
func Floats(values []float32, dims ...int64) *Tensor {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return &Tensor{DType: Float32, Dims: dims, Raw: raw}
}

// Doubles returns a float64 tensor with these elements. Without dims it is a scalar.
func Doubles(values []float64, dims ...int64) *Tensor {
	raw := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(raw[8*i:], math.Float64bits(v))
	}
	return &Tensor{DType: Float64, Dims: dims, Raw: raw}
}

// Filled returns a tensor of a floating-point type whose elements are all x. Without dims it is a scalar.
func Filled(d DType, x float64, dims ...int64) *Tensor {
	return &Tensor{DType: d, Dims: dims, Raw: bytes.Repeat(encodeFloat(d, x), int(Elements(dims)))}
}

// encodeFloat returns the bytes of x as one element of a floating-point type.
func encodeFloat(d DType, x float64) []byte {
	switch d {
	case Float64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))
	case Float16:
		return binary.LittleEndian.AppendUint16(nil, float16.Fromfloat32(float32(x)).Bits())
	case BFloat16:
		bits := math.Float32bits(float32(x))
		bits += 0x7fff + bits>>16&1 // round to nearest, ties to even
		return binary.LittleEndian.AppendUint16(nil, uint16(bits>>16))
	}
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(x)))
}

// Ints returns an int64 tensor with these elements. Without dims it is a scalar.
func Ints(values []int64, dims ...int64) *Tensor {
	raw := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(raw[8*i:], uint64(v))
	}
	return &Tensor{DType: Int64, Dims: dims, Raw: raw}
}

// Int64s returns the elements of an int64 tensor, or nil for any other.
func (t *Tensor) Int64s() []int64 {
	if t == nil || t.DType != Int64 {
		return nil
	}
	out := make([]int64, len(t.Raw)/8)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(t.Raw[8*i:]))
	}
	return out
}

// Float32s returns the elements of a float32 tensor, or nil for any other.
func (t *Tensor) Float32s() []float32 {
	if t == nil || t.DType != Float32 {
		return nil
	}
	out := make([]float32, len(t.Raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Raw[4*i:]))
	}
	return out
}

// size returns the size of a tensor in bytes.
func (t *Tensor) size() int64 { return Elements(t.Dims) * int64(t.DType.Size()) }
