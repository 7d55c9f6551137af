package kernels

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// constant is a value of a graph that does not depend on its inputs: an initializer, or several that are joined along the first dimension and
// widened to float32. It is read in pieces, so that no copy of a large one is in memory.
type constant struct {
	dims  []int64
	dtype string // of its value in the graph
	parts []stored
}

// stored is the data of an initializer: in memory, or in a file.
type stored struct {
	name  string
	dtype string // F32, F16 or BF16
	dims  []int64
	raw   []byte
	file  *os.File // if raw is nil
	at    int64    // in the file
}

// storedTypes names the element types that are read here, as package safetensors does.
var storedTypes = map[int32]string{int32(onnx.Float32): "F32", int32(onnx.Float16): "F16", int32(onnx.BFloat16): "BF16"}

func (s stored) width() int64 {
	if s.dtype == "F32" {
		return 4
	}
	return 2
}

// storage finds and reads the data of initializers. It keeps files open until close.
type storage struct {
	folder string
	memory map[string][]byte
	files  map[string]*os.File
}

// find finds the data of an initializer, or reports that they cannot be read here.
func (x *storage) find(t *onnxpb.TensorProto) (stored, bool) {
	s := stored{name: t.GetName(), dtype: storedTypes[t.GetDataType()], dims: t.GetDims(), raw: t.GetRawData()}
	if s.dtype == "" {
		return s, false
	}
	size := onnx.Elements(s.dims) * s.width()
	if t.GetDataLocation() != onnxpb.TensorProto_EXTERNAL {
		return s, int64(len(s.raw)) == size
	}
	location, length := "", size
	for _, e := range t.ExternalData {
		var err error
		switch e.Key {
		case "location":
			location = e.Value
		case "offset":
			s.at, err = strconv.ParseInt(e.Value, 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.Value, 10, 64)
		}
		if err != nil || s.at < 0 || length != size {
			return s, false
		}
	}
	if location == onnx.InMemory {
		s.raw = x.memory[s.name]
		return s, int64(len(s.raw)) == size
	}
	s.raw, s.file = nil, x.open(location)
	return s, s.file != nil
}

// open opens a file of external data, once. It returns nil if that fails: ONNX Runtime will tell why.
func (x *storage) open(location string) *os.File {
	if x.folder == "" || location == "" {
		return nil
	}
	path := filepath.Join(x.folder, filepath.FromSlash(location))
	f, ok := x.files[path]
	if !ok {
		f, _ = os.Open(path) // nil after an error
		x.files[path] = f
	}
	return f
}

func (x *storage) close() error {
	var errs []error
	for _, f := range x.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	x.files = nil
	return errors.Join(errs...)
}

// read fills values with the elements from number first on.
func (c *constant) read(values []float32, first int64) error {
	for _, s := range c.parts {
		n := onnx.Elements(s.dims)
		if first >= n {
			first -= n
			continue
		}
		part := values[:min(int64(len(values)), n-first)]
		if err := s.read(part, first); err != nil {
			return fmt.Errorf("constant %q: %w", s.name, err)
		}
		values, first = values[len(part):], 0
	}
	if len(values) > 0 {
		return fmt.Errorf("it ends %d values too early", len(values))
	}
	return nil
}

func (s stored) read(values []float32, first int64) error {
	at, size := first*s.width(), int64(len(values))*s.width()
	raw := s.raw
	switch {
	case raw != nil:
		raw = raw[at : at+size]
	case s.dtype == "F32": // the machine's own format, as everywhere
		_, err := s.file.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), size), s.at+at)
		return err
	default:
		raw = make([]byte, size)
		if _, err := s.file.ReadAt(raw, s.at+at); err != nil {
			return err
		}
	}
	return safetensors.Tensor{Name: s.name, DType: s.dtype, Data: raw}.Read(values)
}
