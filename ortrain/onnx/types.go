package onnx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/x448/float16"
)

// DType is an ONNX element type (TensorProto.DataType).
type DType int32

// The element types that this project emits.
const (
	Float32 DType = 1
	Uint8   DType = 2
	Int8    DType = 3
	Int32   DType = 6
	Int64   DType = 7
	Bool    DType = 9
	Float16 DType = 10
	Float64 DType = 11
	// BFloat16 is float32 without the lower half of its bits.
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

// IsFloat says whether values of this type can carry a gradient.
func (d DType) IsFloat() bool { return d == Float32 || d == Float64 || d.IsHalf() }

// IsHalf says whether this is a float type of 16 bits.
func (d DType) IsHalf() bool { return d == Float16 || d == BFloat16 }

// Size is the width of one element in bytes, 0 for types this project does not emit.
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

// Dim is one dimension of a shape: a fixed Size, or a Name for a size known only when the graph runs. Names of
// computed dimensions are canonical expressions ("length*rows"), so that equal names mean equal sizes.
type Dim struct {
	Size int64
	Name string
}

// Fixed says whether the size is known when the graph is built.
func (d Dim) Fixed() bool { return d.Name == "" }

func (d Dim) String() string {
	if d.Fixed() {
		return strconv.FormatInt(d.Size, 10)
	}
	return d.Name
}

// D is a fixed dimension.
func D(n int64) Dim { return Dim{Size: n} }

// N is a dimension known only when the graph runs.
func N(name string) Dim { return Dim{Name: name} }

// Shape is a list of dimensions; the empty shape is a scalar's.
type Shape []Dim

// Dims is the shape with these fixed sizes.
func Dims(sizes ...int64) Shape {
	s := make(Shape, len(sizes))
	for i, n := range sizes {
		s[i] = D(n)
	}
	return s
}

func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Equal says whether both shapes are the same, by size or by name.
func (s Shape) Equal(t Shape) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range s {
		if s[i] != t[i] {
			return false
		}
	}
	return true
}

// Sizes gives the sizes of a shape without named dimensions.
func (s Shape) Sizes() ([]int64, bool) {
	sizes := make([]int64, len(s))
	for i, d := range s {
		if !d.Fixed() {
			return nil, false
		}
		sizes[i] = d.Size
	}
	return sizes, true
}

// Product is the number of elements of a shape with these dimensions, as a dimension.
func Product(dims ...Dim) Dim { return mulDims(dims...) }

// mulDims multiplies dimensions: the fixed ones into one leading number, the names sorted behind it.
func mulDims(dims ...Dim) Dim {
	size := int64(1)
	var names []string
	for _, d := range dims {
		if d.Fixed() {
			size *= d.Size
			continue
		}
		for _, f := range factors(d.Name) {
			if n, err := strconv.ParseInt(f, 10, 64); err == nil {
				size *= n
			} else {
				names = append(names, f)
			}
		}
	}
	if len(names) == 0 || size == 0 {
		return D(size)
	}
	sort.Strings(names)
	name := strings.Join(names, "*")
	if size != 1 {
		name = strconv.FormatInt(size, 10) + "*" + name
	}
	return N(name)
}

// factors splits a product at its top level.
func factors(name string) []string {
	depth, start := 0, 0
	var parts []string
	for i, r := range name {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case '*':
			if depth == 0 {
				parts = append(parts, name[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, name[start:])
}

// addDims adds dimensions: names sorted, the fixed part last.
func addDims(dims ...Dim) Dim {
	size := int64(0)
	var names []string
	for _, d := range dims {
		if d.Fixed() {
			size += d.Size
		} else {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return D(size)
	}
	sort.Strings(names)
	if size != 0 {
		names = append(names, strconv.FormatInt(size, 10))
	}
	if len(names) == 1 {
		return N(names[0])
	}
	return N("(" + strings.Join(names, "+") + ")")
}

// divDims divides a product by one of its parts. ok is false when the quotient has no such form.
func divDims(a, b Dim) (Dim, bool) {
	if a == b {
		return D(1), true
	}
	count := map[string]int{}
	num, den := int64(1), int64(1)
	split := func(d Dim, n *int64, step int) {
		if d.Fixed() {
			*n *= d.Size
			return
		}
		for _, f := range factors(d.Name) {
			if k, err := strconv.ParseInt(f, 10, 64); err == nil {
				*n *= k
			} else {
				count[f] += step
			}
		}
	}
	split(a, &num, 1)
	split(b, &den, -1)
	if den == 0 || num%den != 0 {
		return Dim{}, false
	}
	out := []Dim{D(num / den)}
	for f, k := range count {
		if k < 0 {
			return Dim{}, false
		}
		for ; k > 0; k-- {
			out = append(out, N(f))
		}
	}
	return mulDims(out...), true
}

// Tensor is a constant: little-endian elements in row-major order.
type Tensor struct {
	DType DType
	Dims  []int64
	Raw   []byte
	// File says that the elements lie in a file instead of Raw.
	File *FileRange
}

// FileRange is where a tensor's elements begin in a file.
type FileRange struct {
	Path   string // absolute, without symbolic links
	Offset int64
}

// Elements is the product of dims.
func Elements(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

// Floats makes a float32 tensor; no dims make a scalar.
func Floats(values []float32, dims ...int64) *Tensor {
	raw := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return &Tensor{DType: Float32, Dims: dims, Raw: raw}
}

// Doubles makes a float64 tensor; no dims make a scalar.
func Doubles(values []float64, dims ...int64) *Tensor {
	raw := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(raw[8*i:], math.Float64bits(v))
	}
	return &Tensor{DType: Float64, Dims: dims, Raw: raw}
}

// Filled makes a tensor of a float type whose elements are all x; no dims make a scalar.
func Filled(d DType, x float64, dims ...int64) *Tensor {
	one := element(d, x)
	return &Tensor{DType: d, Dims: dims, Raw: bytes.Repeat(one, int(Elements(dims)))}
}

// element is a number of a float type, as tensors hold it.
func element(d DType, x float64) []byte {
	switch d {
	case Float64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))
	case Float16:
		return binary.LittleEndian.AppendUint16(nil, float16.Fromfloat32(float32(x)).Bits())
	case BFloat16:
		bits := math.Float32bits(float32(x))
		bits += 0x7fff + bits>>16&1 // to the nearest, ties to even
		return binary.LittleEndian.AppendUint16(nil, uint16(bits>>16))
	}
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(x)))
}

// Ints makes an int64 tensor; no dims make a scalar.
func Ints(values []int64, dims ...int64) *Tensor {
	raw := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(raw[8*i:], uint64(v))
	}
	return &Tensor{DType: Int64, Dims: dims, Raw: raw}
}

// Int64s reads an int64 tensor's elements.
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

// Float32s reads a float32 tensor's elements.
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
