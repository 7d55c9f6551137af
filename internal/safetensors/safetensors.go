// Package safetensors reads and writes the safetensors format: a JSON header with names, types, shapes and offsets, then
// raw little-endian tensors. Files are memory-mapped, and every entry of the header is checked.
//
//	f, err := safetensors.Open("model.safetensors")
//	defer f.Close()
//	values, err := f.Float32("embeddings.word_embeddings.weight")
//
// Format: https://github.com/huggingface/safetensors. The one Go library found for it has no release and reads whole
// files into memory.
package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"unsafe"

	"rag-retrieval-go/internal/mapped"
)

// maxHeader is the reference implementation's limit on the header's size.
const maxHeader = 100 << 20

// Tensor is one entry of a file. Data is little-endian, row-major.
type Tensor struct {
	Name  string
	DType string // "F32", "F16", "BF16", "I64", …
	Shape []int64
	Data  []byte
	// Path and Offset are the position of Data in a mapped file. Path is "" for data that are not in a mapped file.
	Path   string
	Offset int64
	// Stream writes the data of a tensor that is not in this process's memory, in as many pieces as it likes; Data is then nil.
	// Write calls it, for one tensor after the other.
	Stream func(w io.Writer) error
}

// File is an open file. Its tensors' data point into the mapped file and are invalid after Close.
type File struct {
	Path     string
	Metadata map[string]string
	Tensors  []Tensor // in the order of their data
	byName   map[string]int
	mapped   []byte
}

type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

var elementSizes = map[string]int64{
	"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
	"I8": 1, "U8": 1, "BOOL": 1,
}

// Open maps a file and checks its whole header.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func open(path string) (*File, error) {
	b, err := mapped.Open(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 {
		return nil, errors.Join(fmt.Errorf("not a safetensors file: %d bytes long", len(b)), mapped.Close(b))
	}
	f := &File{Path: path, mapped: b, byName: map[string]int{}}
	if err := f.parse(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *File) parse() error {
	n := binary.LittleEndian.Uint64(f.mapped)
	if n > maxHeader || n > uint64(len(f.mapped)-8) {
		return fmt.Errorf("not a safetensors file, or cut short: header of %d bytes in a file of %d", n, len(f.mapped))
	}
	data := f.mapped[8+n:]
	header := map[string]json.RawMessage{}
	if err := json.Unmarshal(f.mapped[8:8+n], &header); err != nil {
		return fmt.Errorf("safetensors header: %w", err)
	}
	if raw, ok := header["__metadata__"]; ok {
		if err := json.Unmarshal(raw, &f.Metadata); err != nil {
			return fmt.Errorf("safetensors __metadata__: %w", err)
		}
		delete(header, "__metadata__")
	}
	starts := map[string]int64{}
	for name, raw := range header {
		t, start, err := parseEntry(name, raw, data)
		if err != nil {
			return err
		}
		starts[name] = start
		t.Path, t.Offset = f.Path, int64(8+n)+start
		f.Tensors = append(f.Tensors, t)
	}
	sort.Slice(f.Tensors, func(i, j int) bool {
		a, b := f.Tensors[i].Name, f.Tensors[j].Name
		return starts[a] < starts[b] || starts[a] == starts[b] && a < b
	})
	for i, t := range f.Tensors {
		f.byName[t.Name] = i
	}
	return nil
}

func parseEntry(name string, raw json.RawMessage, data []byte) (Tensor, int64, error) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Tensor{}, 0, fmt.Errorf("tensor %q: %w", name, err)
	}
	size, ok := elementSizes[e.DType]
	if !ok {
		return Tensor{}, 0, fmt.Errorf("tensor %q has the unknown type %q", name, e.DType)
	}
	for _, d := range e.Shape {
		if d < 0 || d > 0 && size > math.MaxInt64/d {
			return Tensor{}, 0, fmt.Errorf("tensor %q has the impossible shape %v", name, e.Shape)
		}
		size *= d
	}
	start, end := e.Offsets[0], e.Offsets[1]
	if start < 0 || end < start || end-start != size {
		return Tensor{}, 0, fmt.Errorf("tensor %q: bytes %d to %d for %s%v", name, start, end, e.DType, e.Shape)
	}
	if end > int64(len(data)) {
		return Tensor{}, 0, fmt.Errorf("tensor %q ends at byte %d of %d: the file is cut short", name, end, len(data))
	}
	return Tensor{Name: name, DType: e.DType, Shape: e.Shape, Data: data[start:end]}, start, nil
}

// Tensor returns the tensor of this name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensors[i], true
}

// Float32 returns the elements of the tensor of this name; see Tensor.Float32.
func (f *File) Float32(name string) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %q", f.Path, name)
	}
	out, err := t.Float32()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return out, nil
}

// Float32 returns the tensor's elements. F16 and BF16 are widened, F64 is rounded; other types are an error.
func (t Tensor) Float32() ([]float32, error) {
	f, ok := floats[t.DType]
	if !ok {
		return nil, t.notFloat()
	}
	out := make([]float32, len(t.Data)/f.width)
	return out, t.Read(out)
}

// floats holds, for each type that Read supports, its width in bytes and a function that fills out with the elements of data.
var floats = map[string]struct {
	width int
	widen func(out []float32, data []byte)
}{
	"F32": {4, func(out []float32, data []byte) {
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	}},
	"F16": {2, func(out []float32, data []byte) {
		for i := range out {
			out[i] = float16ToFloat32(binary.LittleEndian.Uint16(data[2*i:]))
		}
	}},
	"BF16": {2, func(out []float32, data []byte) {
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	}},
	"F64": {8, func(out []float32, data []byte) {
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
		}
	}},
}

func (t Tensor) notFloat() error {
	return fmt.Errorf("tensor %q has the type %s, want F32, F16, BF16 or F64", t.Name, t.DType)
}

// readAtOnce is the number of elements that Read reads before it releases their pages.
const readAtOnce = 4 << 20

// Read fills values, one for each element of the tensor, as Float32 does. It holds only a few megabytes of a mapped file in
// memory at a time.
func (t Tensor) Read(values []float32) error {
	f, ok := floats[t.DType]
	if !ok {
		return t.notFloat()
	}
	if len(t.Data) != f.width*len(values) {
		return fmt.Errorf("tensor %q has %d elements, want %d", t.Name, len(t.Data)/f.width, len(values))
	}
	return t.ReadAt(values, 0)
}

// ReadAt fills values with the elements from number first on, as Read does.
func (t Tensor) ReadAt(values []float32, first int64) error {
	f, ok := floats[t.DType]
	if !ok {
		return t.notFloat()
	}
	n := int64(len(t.Data) / f.width)
	if first < 0 || first > n || int64(len(values)) > n-first {
		return fmt.Errorf("tensor %q has %d elements, want those from %d to %d", t.Name, n, first, first+int64(len(values)))
	}
	for data := t.Data[int64(f.width)*first:]; len(values) > 0; {
		n := min(readAtOnce, len(values))
		f.widen(values[:n], data)
		t.releasePages(data[:n*f.width])
		values, data = values[n:], data[n*f.width:]
	}
	return nil
}

// Finite returns an error that names the first element that is not finite, or nil if all are.
func (t Tensor) Finite() error {
	f, ok := floats[t.DType]
	if !ok {
		return t.notFloat()
	}
	values := make([]float32, min(readAtOnce/16, len(t.Data)/f.width))
	for data, at := t.Data, 0; len(data) > 0; {
		n := min(len(values), len(data)/f.width)
		f.widen(values[:n], data)
		if i := firstNotFinite(values[:n]); i >= 0 {
			return fmt.Errorf("tensor %q: element %d is %g", t.Name, at+i, values[i])
		}
		t.releasePages(data[:n*f.width])
		data, at = data[n*f.width:], at+n
	}
	return nil
}

// firstNotFinite returns the index of the first value that is not finite, or -1 if all are.
func firstNotFinite(values []float32) int {
	for i, v := range values {
		if v-v != 0 { // true for infinities and NaN, for which v-v is NaN
			return i
		}
	}
	return -1
}

// releasePages releases the pages of a part of Data, if Data are in a mapped file.
func (t Tensor) releasePages(part []byte) {
	if t.Path != "" {
		mapped.ReleasePages(part)
	}
}

// float16ToFloat32 converts an IEEE 754 binary16 number.
func float16ToFloat32(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 255<<23 | frac<<13)
	case exp > 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
	v := float32(frac) / (1 << 24) // subnormal, exact
	return math.Float32frombits(sign | math.Float32bits(v))
}

// Close unmaps the file.
func (f *File) Close() error {
	if f.mapped == nil {
		return nil
	}
	err := mapped.Close(f.mapped)
	f.mapped, f.Tensors = nil, nil
	return err
}

// FromFloat32 makes a tensor that shares the memory of values.
func FromFloat32(name string, values []float32, shape ...int64) Tensor {
	t := Tensor{Name: name, DType: "F32", Shape: shape}
	if len(values) > 0 {
		t.Data = unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))
	}
	return t
}

// Write writes a file. It does not sync the file, and if it fails, an incomplete file remains. Callers therefore write into
// a temporary folder of package atomicdir, which handles both.
func Write(path string, metadata map[string]string, tensors []Tensor) (err error) {
	header, err := encodeHeader(metadata, tensors)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if err := t.writeData(f); err != nil {
			return err
		}
	}
	return nil
}

// writeData writes the data, and checks that they are as long as the header says.
func (t Tensor) writeData(w io.Writer) error {
	c := &counter{w: w}
	if t.Stream != nil {
		if err := t.Stream(c); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
	} else if _, err := c.Write(t.Data); err != nil {
		return err
	}
	if c.n != t.size() {
		return fmt.Errorf("tensor %q: %d bytes for %s%v", t.Name, c.n, t.DType, t.Shape)
	}
	return nil
}

// counter counts the bytes that it writes.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// size is the number of bytes of a tensor of a known type.
func (t Tensor) size() int64 {
	n := elementSizes[t.DType]
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

func encodeHeader(metadata map[string]string, tensors []Tensor) ([]byte, error) {
	header := map[string]any{}
	if len(metadata) > 0 {
		header["__metadata__"] = metadata
	}
	offset := int64(0)
	for _, t := range tensors {
		if _, dup := header[t.Name]; dup {
			return nil, fmt.Errorf("two tensors named %q", t.Name)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		end := offset + t.size()
		header[t.Name] = entry{t.DType, shape, [2]int64{offset, end}}
		offset = end
	}
	b, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	for len(b)%8 != 0 { // spaces align the data, as in the reference implementation
		b = append(b, ' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...), nil
}
