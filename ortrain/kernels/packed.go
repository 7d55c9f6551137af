package kernels

/*
#include "gemm_parts.h"
*/
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packed holds weights of a graph in the packed form that products read, two bytes an element. They are initializers whose data a session gets
// beside the graph's file; sessions of the graph share them. The memory is outside Go's heap.
type Packed struct {
	Weights []PackedWeight
	memory  []byte
}

// PackedWeight is an initializer of type uint8 and shape [len(Data)].
type PackedWeight struct {
	Name string
	Data []byte
}

// Close frees the memory. No session that reads it may be open.
func (p *Packed) Close() error {
	if p == nil || p.memory == nil {
		return nil
	}
	err := unix.Munmap(p.memory)
	p.memory, p.Weights = nil, nil
	return err
}

// matrix is a constant factor of products, op(B): n columns, which are the rows of B where it is transposed, and k rows.
type matrix struct {
	name     string
	values   *constant
	n, k     int64
	trans    bool
	out      []byte
	unpacked atomic.Int32 // its pieces that are not packed yet
}

func (m *matrix) transposed() C.int {
	if m.trans {
		return 1
	}
	return 0
}

// pieceLargest is how many elements are read at once.
const pieceLargest = 1 << 20

// linesAtOnce is how many columns of op(B) are packed at once. Those of a transposed B lie one after the other, and a range of panels is
// packed as if it were a matrix of its own, so that little of a large weight is in memory; another B is packed whole.
func (m *matrix) linesAtOnce() int64 {
	if !m.trans {
		return m.n
	}
	return min(m.n, max(1, pieceLargest/(m.k*C.RR_LINES))*C.RR_LINES)
}

func packedSize(n, k int64) int64 {
	return int64(C.rr_gemm_packed_size(C.RR_UNIT_PORTABLE, C.long(n), C.long(k))) // of all units
}

// packMatrices packs matrices on so many threads; 0 means one for each core. done is called with each matrix that is packed.
func packMatrices(list []*matrix, unit Unit, threads int, done func(*matrix)) (*Packed, error) {
	p := &Packed{}
	total := int64(0)
	for _, m := range list {
		total += packedSize(m.n, m.k)
	}
	var err error
	if p.memory, err = unix.Mmap(-1, 0, int(total), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return nil, fmt.Errorf("allocating %d MiB for packed weights: %w", total>>20, err)
	}
	at := int64(0)
	for _, m := range list { // packed sizes are multiples of 2,048 bytes: each begins at a multiple of 64
		size := packedSize(m.n, m.k)
		m.out = p.memory[at : at+size : at+size]
		p.Weights = append(p.Weights, PackedWeight{m.name, m.out})
		at += size
	}
	if err := packPieces(list, unit, cmp.Or(threads, runtime.NumCPU()), done); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// piece is columns from..to-1 of op(B).
type piece struct {
	*matrix
	from, to int64
}

func packPieces(list []*matrix, unit Unit, threads int, done func(*matrix)) error {
	pieces := make(chan piece)
	errs := make([]error, threads)
	var failed atomic.Bool
	var wait sync.WaitGroup
	for i := range threads {
		wait.Go(func() {
			var buffer []float32
			for x := range pieces {
				if errs[i] == nil {
					errs[i] = x.pack(unit, &buffer)
				}
				if errs[i] != nil {
					failed.Store(true)
				} else if x.unpacked.Add(-1) == 0 {
					done(x.matrix)
				}
			}
		})
	}
	for _, m := range list {
		step := m.linesAtOnce()
		m.unpacked.Store(int32((m.n + step - 1) / step))
		for from := int64(0); from < m.n && !failed.Load(); from += step {
			pieces <- piece{m, from, min(from+step, m.n)}
		}
	}
	close(pieces)
	wait.Wait()
	return errors.Join(errs...)
}

// pack reads a piece into buffer and packs it.
func (x piece) pack(unit Unit, buffer *[]float32) error {
	elements := int((x.to - x.from) * x.k)
	if cap(*buffer) < elements {
		*buffer = make([]float32, elements)
	}
	values := (*buffer)[:elements]
	if err := x.values.read(values, x.from*x.k); err != nil { // from is 0 where B is not transposed
		return fmt.Errorf("weight %q: %w", x.name, err)
	}
	ld := x.k
	if !x.trans {
		ld = x.n
	}
	out := x.out[packedSize(x.from, x.k):]
	if code := C.rr_gemm_pack_b(C.rr_unit(unit.number()), (*C.float)(unsafe.SliceData(values)), C.long(ld), x.transposed(), C.long(x.to-x.from),
		C.long(x.k), unsafe.Pointer(unsafe.SliceData(out)), nil); code != 0 {
		return fmt.Errorf("weight %q: packing %d x %d values fails with %d", x.name, x.to-x.from, x.k, int(code))
	}
	return nil
}
