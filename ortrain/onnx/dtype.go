package onnx

import "fmt"

// DType is the type of a tensor's elements. The numbers are those of ONNX's TensorProto.DataType.
type DType int32

// The element types that this project's graphs use.
const (
	Float32 DType = 1
	Uint8   DType = 2
	Int8    DType = 3
	Int32   DType = 6
	Int64   DType = 7
	Bool    DType = 9
	Float16 DType = 10
	Float64 DType = 11
	// BFloat16 has the upper 16 bits of a float32.
	BFloat16 DType = 16
)

func (d DType) String() string {
	switch d {
	case Float32:
		return "float32"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Bool:
		return "bool"
	case Float64:
		return "float64"
	case Float16:
		return "float16"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprintf("dtype %d", int32(d))
}

// IsFloat reports whether d is a floating-point type, whose values can have a gradient.
func (d DType) IsFloat() bool { return d == Float32 || d == Float64 || d.IsHalf() }

// IsHalf reports whether d is a floating-point type of 16 bits.
func (d DType) IsHalf() bool { return d == Float16 || d == BFloat16 }

// Size returns the size of one element in bytes, or 0 for a type that is not listed above.
func (d DType) Size() int {
	switch d {
	case Bool, Int8, Uint8:
		return 1
	case Float16, BFloat16:
		return 2
	case Float32, Int32:
		return 4
	case Int64, Float64:
		return 8
	}
	return 0
}
