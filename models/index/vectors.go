package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"rag-retrieval-go/internal/mapped"
)

// The files of vectors in a folder. VectorsFile is a .npy file of float32 [documents, dimension]: numpy.load(file, mmap_mode="r")
// reads it too.
const (
	VectorsFile = "vectors.npy"
	sumsFile    = "vectors.xxh64" // the xxhash64 of each chunk that was written, 8 bytes each
)

// ChunkLen is how many vectors are encoded and written together. An interrupted job goes on after the last whole chunk.
const ChunkLen = 1024

// Vectors are the vectors of a corpus's documents, in their order. Several goroutines may read them.
type Vectors struct {
	values    []float32 // [documents, dimension]
	dimension int
	file      []byte // mapped; nil: the values are in memory
}

// VectorsOf makes Vectors of values in memory, [documents, dimension].
func VectorsOf(values []float32, dimension int) *Vectors {
	return &Vectors{values: values, dimension: dimension}
}

// Len is the number of vectors.
func (v *Vectors) Len() int {
	if v.dimension == 0 {
		return 0
	}
	return len(v.values) / v.dimension
}

// Dimension is the length of a vector.
func (v *Vectors) Dimension() int { return v.dimension }

// Rows returns the vectors from, from+1, … to-1, end to end. They must not be changed.
func (v *Vectors) Rows(from, to int) []float32 {
	return v.values[from*v.dimension : to*v.dimension : to*v.dimension]
}

// Row returns vector i. It must not be changed.
func (v *Vectors) Row(i int) []float32 { return v.Rows(i, i+1) }

// release frees the memory of rows that were read from a file; if they are read again, they come from the file again.
func (v *Vectors) release(from, to int) {
	if v.file == nil || from == to {
		return
	}
	rows := v.Rows(from, to)
	mapped.ReleasePages(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(rows))), 4*len(rows)))
}

// Close unmaps the file. The vectors must not be read afterwards.
func (v *Vectors) Close() error {
	if v == nil {
		return nil
	}
	file := v.file
	v.values, v.file = nil, nil
	return mapped.Close(file)
}

// OpenVectors maps the vectors that Encode has made in a folder. Vectors that are not whole are an error.
func OpenVectors(dir string) (*Vectors, error) {
	path := filepath.Join(dir, VectorsFile)
	file, err := mapped.Open(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	v, err := readVectors(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), mapped.Close(file))
	}
	return v, nil
}

func readVectors(file []byte) (*Vectors, error) {
	h, err := parseHeader(file)
	if err != nil {
		return nil, err
	}
	if want := int64(headerLen) + h.bytes(); int64(len(file)) != want {
		return nil, fmt.Errorf("%d bytes, want %d for %d vectors of %d numbers: the encoding was interrupted, run it again to go on",
			len(file), want, h.vectors, h.dimension)
	}
	v := &Vectors{dimension: h.dimension, file: file}
	if h.bytes() > 0 {
		v.values = unsafe.Slice((*float32)(unsafe.Pointer(&file[headerLen])), h.vectors*h.dimension)
	}
	return v, nil
}

// headerLen is the length of the header that this package writes: a multiple of 64, so that the vectors are aligned.
const headerLen = 128

// maxDimension is more than any model has.
const maxDimension = 1 << 20

// header describes a .npy file of version 1.0, see numpy.lib.format.
type header struct{ vectors, dimension int }

func (h header) bytes() int64 { return 4 * int64(h.vectors) * int64(h.dimension) }

var npyMagic = []byte("\x93NUMPY\x01\x00")

func (h header) encode() []byte {
	text := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", h.vectors, h.dimension)
	b := binary.LittleEndian.AppendUint16(bytes.Clone(npyMagic), uint16(headerLen-len(npyMagic)-2))
	b = append(b, text...)
	for len(b) < headerLen-1 {
		b = append(b, ' ')
	}
	return append(b, '\n')
}

var npyShape = regexp.MustCompile(`^\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n$`)

func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerLen || !bytes.HasPrefix(b, npyMagic) {
		return h, errors.New("not a file of vectors: its header is not that of a .npy file")
	}
	m := npyShape.FindSubmatch(b[len(npyMagic)+2 : headerLen])
	if m == nil {
		return h, errors.New("not a file of vectors: want a .npy file of float32 with two dimensions")
	}
	if h.vectors, err = strconv.Atoi(string(m[1])); err == nil {
		h.dimension, err = strconv.Atoi(string(m[2]))
	}
	if err != nil || h.vectors > math.MaxUint32 || h.dimension < 1 || h.dimension > maxDimension { // then bytes cannot overflow
		return header{}, fmt.Errorf("not a file of vectors: its shape is (%.20s, %.20s)", m[1], m[2])
	}
	return h, nil
}

// writer appends chunks of vectors to the files in a folder.
type writer struct {
	vectors, sums *os.File
	header        header
	done          int // vectors that are written
}

// openWriter opens the files of n vectors, and finds how many whole chunks are there; what follows them is cut off. With fresh, it
// begins anew.
func openWriter(dir string, n int, fresh bool) (w *writer, err error) {
	w = &writer{header: header{vectors: n}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	for name, file := range map[string]**os.File{VectorsFile: &w.vectors, sumsFile: &w.sums} {
		path := filepath.Join(dir, name)
		if fresh { // removed, not truncated: a search that has the file mapped would crash
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return w, err
			}
		}
		if *file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
			return w, err
		}
	}
	return w, w.recover()
}

// recover sets done to the number of vectors in whole chunks, which have the checksum that was written after them.
func (w *writer) recover() error {
	head := make([]byte, headerLen)
	n, _ := w.vectors.ReadAt(head, 0) // a file that is cut short begins anew
	h, err := parseHeader(head[:n])
	if err != nil || h.vectors != w.header.vectors {
		return errors.Join(w.vectors.Truncate(0), w.sums.Truncate(0))
	}
	w.header = h
	sum := make([]byte, 8)
	for w.done < h.vectors {
		chunk := make([]byte, w.chunkBytes())
		if _, err := w.vectors.ReadAt(chunk, w.offset()); err != nil {
			break
		}
		if _, err := w.sums.ReadAt(sum, w.sumOffset()); err != nil || binary.LittleEndian.Uint64(sum) != xxhash.Sum64(chunk) {
			break
		}
		w.done += len(chunk) / 4 / h.dimension
	}
	return errors.Join(w.vectors.Truncate(w.offset()), w.sums.Truncate(w.sumOffset()))
}

// chunkBytes is the length of the next chunk, of which only the last is shorter than others.
func (w *writer) chunkBytes() int {
	return 4 * w.header.dimension * min(ChunkLen, w.header.vectors-w.done)
}

func (w *writer) offset() int64 { return headerLen + 4*int64(w.done)*int64(w.header.dimension) }

func (w *writer) sumOffset() int64 { return 8 * int64((w.done+ChunkLen-1)/ChunkLen) }

// add appends the next chunk.
func (w *writer) add(vectors [][]float32) error {
	if w.header.dimension == 0 {
		w.header.dimension = len(vectors[0])
		if _, err := w.vectors.WriteAt(w.header.encode(), 0); err != nil {
			return err
		}
	}
	chunk := make([]byte, 0, 4*w.header.dimension*len(vectors))
	for _, v := range vectors {
		if len(v) != w.header.dimension {
			return fmt.Errorf("a vector has %d numbers, the first one %d", len(v), w.header.dimension)
		}
		var err error
		if chunk, err = binary.Append(chunk, binary.LittleEndian, v); err != nil {
			return err
		}
	}
	if len(chunk) != w.chunkBytes() {
		return fmt.Errorf("a chunk of %d bytes, want %d", len(chunk), w.chunkBytes())
	}
	if _, err := w.vectors.WriteAt(chunk, w.offset()); err != nil {
		return err
	}
	// The checksum is written after the vectors: a chunk without one counts as not written.
	if _, err := w.sums.WriteAt(binary.LittleEndian.AppendUint64(nil, xxhash.Sum64(chunk)), w.sumOffset()); err != nil {
		return err
	}
	w.done += len(vectors)
	return nil
}

// Close closes the files.
func (w *writer) Close() error {
	if w == nil {
		return nil
	}
	var errs []error
	for _, f := range []*os.File{w.vectors, w.sums} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	w.vectors, w.sums = nil, nil
	return errors.Join(errs...)
}
