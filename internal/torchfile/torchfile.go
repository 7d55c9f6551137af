// Package torchfile reads the tensors of a PyTorch checkpoint (pytorch_model.bin, *.pt), in the zip format of torch.save
// since 1.6 and in the legacy format before it. It executes no code of a file: its pickle machine knows the few calls that
// rebuild tensors and ignores every other object.
//
//	f, err := torchfile.Open("pytorch_model.bin")
//	defer f.Close()
//	for _, t := range f.Tensors { … }       // names, types, shapes; data points into the mapped file
//
// The Go libraries for the format read whole files into memory and trust the sizes in a file.
package torchfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strings"

	"rag-retrieval-go/internal/mapped"
	"rag-retrieval-go/internal/safetensors"
)

// File is an open checkpoint. Its tensors' data may point into the mapped file and are invalid after Close.
type File struct {
	Path    string
	Tensors []safetensors.Tensor // sorted by name
	mapped  []byte
	copied  int64 // bytes of tensors that are not contiguous and were therefore copied
}

// Open maps a file and reads its table of tensors.
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
	if len(b) < 4 {
		return nil, errors.Join(fmt.Errorf("not a PyTorch file: %d bytes long", len(b)), mapped.Close(b))
	}
	f := &File{Path: path, mapped: b}
	if err := f.parse(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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

func (f *File) parse() error {
	if bytes.HasPrefix(f.mapped, []byte("PK\x03\x04")) {
		return f.parseZip()
	}
	return f.parseLegacy()
}

// parseZip reads "<name>/data.pkl" and the storages "<name>/data/<key>", which are stored uncompressed.
func (f *File) parseZip() error {
	z, err := zip.NewReader(bytes.NewReader(f.mapped), int64(len(f.mapped)))
	if err != nil {
		return fmt.Errorf("not a PyTorch zip file, or cut short: %w", err)
	}
	members := map[string][]byte{}
	for _, m := range z.File {
		_, name, ok := strings.Cut(m.Name, "/")
		if !ok || name != "data.pkl" && name != "byteorder" && !strings.HasPrefix(name, "data/") {
			continue
		}
		if members[name], err = f.member(m); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if members["data.pkl"] == nil {
		return fmt.Errorf("a zip file without data.pkl: not a PyTorch file")
	}
	if order := members["byteorder"]; order != nil && string(order) != "little" {
		return fmt.Errorf("byte order %.10q, want little", order)
	}
	top, err := unpickle(bytes.NewReader(members["data.pkl"]), len(members["data.pkl"]))
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	return f.collect(top, func(key string) ([]byte, bool) {
		b, ok := members["data/"+key]
		return b, ok
	})
}

// member returns the bytes of an uncompressed member of the zip file, without a copy.
func (f *File) member(m *zip.File) ([]byte, error) {
	if m.Method != zip.Store {
		return nil, fmt.Errorf("the member is compressed; want it stored, as torch.save does")
	}
	start, err := m.DataOffset()
	if err != nil {
		return nil, err
	}
	size := m.UncompressedSize64
	if start < 0 || start > int64(len(f.mapped)) || size > uint64(int64(len(f.mapped))-start) {
		return nil, fmt.Errorf("%d bytes at %d of %d: the file is cut short", size, start, len(f.mapped))
	}
	return f.mapped[start : start+int64(size)], nil
}

// parseLegacy reads three pickles (magic number, protocol, system), the object, the list of storage keys, and then
// each storage: its number of elements and its bytes.
func (f *File) parseLegacy() error {
	r := bytes.NewReader(f.mapped)
	magic, err := unpickle(r, len(f.mapped))
	if n, ok := magic.(integer); err != nil || !ok || n.digits != "6cfc9c46f9206aa85019" {
		return fmt.Errorf("neither a zip file nor a legacy PyTorch file")
	}
	for range 2 {
		if _, err := unpickle(r, len(f.mapped)); err != nil {
			return fmt.Errorf("legacy header: %w", err)
		}
	}
	top, err := unpickle(r, len(f.mapped))
	if err != nil {
		return err
	}
	keys, err := unpickle(r, len(f.mapped))
	if err != nil {
		return fmt.Errorf("storage keys: %w", err)
	}
	list, ok := keys.(*list)
	if !ok {
		return fmt.Errorf("the storage keys are not a list")
	}
	widths := map[string]int64{}
	walk(top, func(_ string, t *tensor) { widths[t.storage.key] = t.storage.width })
	storages := map[string][]byte{}
	for _, k := range list.items {
		key, _ := k.(string)
		var size [8]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return fmt.Errorf("storage %q: the file is cut short", key)
		}
		n, width := binary.LittleEndian.Uint64(size[:]), widths[key]
		if width == 0 {
			return fmt.Errorf("storage %q belongs to no tensor", key)
		}
		if n > uint64(r.Len())/uint64(width) {
			return fmt.Errorf("storage %q: %d elements, %d bytes left: the file is cut short", key, n, r.Len())
		}
		at, bytes := int64(len(f.mapped)-r.Len()), int64(n)*width
		storages[key] = f.mapped[at : at+bytes]
		if _, err := r.Seek(bytes, io.SeekCurrent); err != nil {
			return err
		}
	}
	return f.collect(top, func(key string) ([]byte, bool) {
		b, ok := storages[key]
		return b, ok
	})
}

// collect lists the tensors of the unpickled object.
func (f *File) collect(top any, storage func(key string) ([]byte, bool)) error {
	var failed error
	seen := map[string]bool{}
	walk(top, func(name string, t *tensor) {
		if failed != nil || seen[name] {
			return
		}
		seen[name] = true
		data, ok := storage(t.storage.key)
		if !ok {
			failed = fmt.Errorf("tensor %q: its storage %q is not in the file", name, t.storage.key)
			return
		}
		x, err := f.tensor(name, t, data)
		if err != nil {
			failed = fmt.Errorf("tensor %q: %w", name, err)
			return
		}
		f.Tensors = append(f.Tensors, x)
	})
	if failed == nil && len(f.Tensors) == 0 {
		failed = fmt.Errorf("no tensors: want a state dict, as torch.save(model.state_dict(), …) writes it")
	}
	sort.Slice(f.Tensors, func(i, j int) bool { return f.Tensors[i].Name < f.Tensors[j].Name })
	return failed
}

// walk visits the tensors of a state dict, and of state dicts under the keys "state_dict" and "model".
func walk(top any, visit func(name string, t *tensor)) {
	d, ok := top.(*dict)
	if !ok {
		return
	}
	for _, e := range d.items {
		name, ok := e.key.(string)
		if !ok {
			continue
		}
		if t, ok := e.value.(*tensor); ok {
			visit(name, t)
		}
		if inner, ok := e.value.(*dict); ok && inner != d && (name == "state_dict" || name == "model") {
			for _, e := range inner.items {
				if t, ok := e.value.(*tensor); ok {
					if name, ok := e.key.(string); ok {
						visit(name, t)
					}
				}
			}
		}
	}
}

// tensor returns a tensor as a part of its storage. A tensor that is not contiguous is copied.
func (f *File) tensor(name string, t *tensor, storage []byte) (safetensors.Tensor, error) {
	x := safetensors.Tensor{Name: name, DType: t.storage.dtype, Shape: t.shape}
	width := t.storage.width
	have := int64(len(storage)) / width
	count, last := int64(1), t.offset
	for i, d := range t.shape {
		if d < 0 || t.stride[i] < 0 || d > 0 && count > math.MaxInt64/8/d {
			return x, fmt.Errorf("the impossible shape %v with strides %v", t.shape, t.stride)
		}
		count *= d
	}
	if count == 0 {
		return x, nil
	}
	for i, d := range t.shape {
		if step := t.stride[i]; step > 0 && d-1 > (math.MaxInt64-last)/step {
			return x, fmt.Errorf("strides %v run past its storage of %d elements", t.stride, have)
		}
		last += (d - 1) * t.stride[i]
	}
	if t.offset < 0 || last >= have || last < 0 {
		return x, fmt.Errorf("its last element is number %d of a storage of %d: the file is cut short", last+1, have)
	}
	if contiguous(t) {
		x.Data = storage[t.offset*width : (t.offset+count)*width]
		x.Path, x.Offset = f.Path, mapped.Offset(f.mapped, x.Data)
		return x, nil
	}
	if f.copied += count * width; f.copied > 4*int64(len(f.mapped)) {
		return x, fmt.Errorf("expands to more than the file holds")
	}
	x.Data = make([]byte, 0, count*width)
	index := make([]int64, len(t.shape))
	for range count {
		at := t.offset
		for i, k := range index {
			at += k * t.stride[i]
		}
		x.Data = append(x.Data, storage[at*width:(at+1)*width]...)
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < t.shape[i] {
				break
			}
			index[i] = 0
		}
	}
	return x, nil
}

func contiguous(t *tensor) bool {
	want := int64(1)
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= t.shape[i]
	}
	return true
}
