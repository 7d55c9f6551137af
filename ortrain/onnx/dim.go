package onnx

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Dim is one dimension of a shape. It has either a fixed Size, or a Name for a size that is known only when the graph runs.
// The name of a computed dimension is a canonical expression, such as "2*length*rows" or "(queries+passages)". Therefore
// equal names mean equal sizes.
type Dim struct {
	Size int64
	Name string
}

// Fixed reports whether the size is known when the graph is built.
func (d Dim) Fixed() bool { return d.Name == "" }

func (d Dim) String() string {
	if d.Fixed() {
		return strconv.FormatInt(d.Size, 10)
	}
	return d.Name
}

// FixedDim returns a dimension of fixed size n.
func FixedDim(n int64) Dim { return Dim{Size: n} }

// NamedDim returns a named dimension, whose size is known only when the graph runs.
func NamedDim(name string) Dim { return Dim{Name: name} }

// Shape is a list of dimensions. A scalar has the empty shape.
type Shape []Dim

// Dims returns the shape with these fixed sizes.
func Dims(sizes ...int64) Shape {
	s := make(Shape, len(sizes))
	for i, n := range sizes {
		s[i] = FixedDim(n)
	}
	return s
}

func (s Shape) String() string {
	dims := make([]string, len(s))
	for i, d := range s {
		dims[i] = d.String()
	}
	return "[" + strings.Join(dims, ", ") + "]"
}

// Equal reports whether s and t have the same dimensions. Named dimensions are compared by name.
func (s Shape) Equal(t Shape) bool { return slices.Equal(s, t) }

// Sizes returns the sizes of all dimensions. It returns false if one is named.
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

// Resolve returns the size of d, given the sizes of named dimensions. d may be one of these names or a product of them, see
// Product. Any other dimension, such as a sum, is an error.
func (d Dim) Resolve(sizes map[string]int64) (int64, error) {
	if d.Fixed() {
		return d.Size, nil
	}
	if n, ok := sizes[d.Name]; ok {
		return n, nil
	}
	size := int64(1)
	for _, name := range factors(d.Name) {
		n, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			var ok bool
			if n, ok = sizes[name]; !ok {
				return 0, fmt.Errorf("the size of dimension %q is not given", name)
			}
		}
		size *= n
	}
	return size, nil
}

// Product returns the number of elements of a shape with these dimensions, as a dimension.
func Product(dims ...Dim) Dim { return mulDims(dims...) }

// mulDims returns the product of dimensions: first the product of all numbers, then the names in sorted order ("6*m*n").
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
		return FixedDim(size)
	}
	sort.Strings(names)
	name := strings.Join(names, "*")
	if size != 1 {
		name = strconv.FormatInt(size, 10) + "*" + name
	}
	return NamedDim(name)
}

// factors splits the name of a product into its factors: "2*m*(n+3)" into "2", "m" and "(n+3)".
func factors(name string) []string {
	depth, start := 0, 0
	var out []string
	for i, r := range name {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case '*':
			if depth == 0 {
				out = append(out, name[start:i])
				start = i + 1
			}
		}
	}
	return append(out, name[start:])
}

// addDims returns the sum of dimensions: the names in sorted order, then the sum of all numbers ("(m+n+3)").
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
		return FixedDim(size)
	}
	sort.Strings(names)
	if size != 0 {
		names = append(names, strconv.FormatInt(size, 10))
	}
	if len(names) == 1 {
		return NamedDim(names[0])
	}
	return NamedDim("(" + strings.Join(names, "+") + ")")
}

// divDims returns a / b. It returns false unless b divides a: every name in b is a factor of a, and the numbers leave no
// remainder.
func divDims(a, b Dim) (Dim, bool) {
	if a == b {
		return FixedDim(1), true
	}
	exponents := map[string]int{} // of each name in the quotient
	num, den := int64(1), int64(1)
	multiply := func(d Dim, n *int64, exponent int) {
		if d.Fixed() {
			*n *= d.Size
			return
		}
		for _, f := range factors(d.Name) {
			if k, err := strconv.ParseInt(f, 10, 64); err == nil {
				*n *= k
			} else {
				exponents[f] += exponent
			}
		}
	}
	multiply(a, &num, 1)
	multiply(b, &den, -1)
	if den == 0 || num%den != 0 {
		return Dim{}, false
	}
	out := []Dim{FixedDim(num / den)}
	for f, k := range exponents {
		if k < 0 {
			return Dim{}, false
		}
		for ; k > 0; k-- {
			out = append(out, NamedDim(f))
		}
	}
	return mulDims(out...), true
}
