package dist

/*
#cgo linux LDFLAGS: -ldl
#include "native.h"
*/
import "C"

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"rag-retrieval-go/ortrain/runtime"
)

// LibraryVariable is the environment variable with the path of the shim library to use instead of the one that setup.sh made.
const LibraryVariable = "RAG_RETRIEVAL_MPI_LIB"

// shim is the file that scripts/setup.sh --mpi compiles from shim/rr_mpi.c.
const shim = "librr_mpi.so"

// FindLibrary returns the path of the shim library, see runtime.FindLibrary.
func FindLibrary() (string, error) {
	if p := os.Getenv(LibraryVariable); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("%s: %w", LibraryVariable, err)
		}
		return filepath.Abs(p)
	}
	path, err := runtime.Find(shim)
	if err != nil {
		return "", fmt.Errorf("MPI is not set up: run scripts/setup.sh --mpi (%w)", err)
	}
	return path, nil
}

// mpi is a Comm over the world of an MPI job.
type mpi struct {
	f                     *C.rr_mpi
	rank, size, localRank int
	version               string
	most                  int        // elements of one call
	threads               bool       // a second thread may call MPI
	heartbeat             *heartbeat // nil until the job has started
}

// load loads the shim library. Its functions stay loaded until Close.
func load(path string) (*mpi, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	m := &mpi{f: (*C.rr_mpi)(C.calloc(1, C.sizeof_rr_mpi)), most: maxCount}
	if text := C.rr_mpi_load(name, m.f); text != nil {
		defer C.free(unsafe.Pointer(text))
		return nil, fmt.Errorf("loading %s: %s (run scripts/setup.sh --mpi again)", path, C.GoString(text))
	}
	return m, nil
}

func openMPI(path string) (*mpi, error) {
	m, err := load(path)
	if err != nil {
		return nil, err
	}
	var rank, size, local, threads C.int
	if err := m.check("MPI_Init", C.rr_mpi_call_init(m.f, &rank, &size, &local, &threads)); err != nil {
		return nil, err
	}
	m.rank, m.size, m.localRank, m.threads, m.version = int(rank), int(size), int(local), threads != 0, m.libraryVersion()
	return m, nil
}

// libraryVersion is what the MPI library says of itself, on one line. MPI_Init need not have been called.
func (m *mpi) libraryVersion() string {
	text := (*C.char)(C.calloc(1, 1024))
	defer C.free(unsafe.Pointer(text))
	C.rr_mpi_call_version(m.f, text)
	first, _, _ := strings.Cut(C.GoString(text), "\n")
	first, _, _ = strings.Cut(strings.Join(strings.Fields(first), " "), ", package") // Open MPI also says who built it
	return strings.Replace(first, "MPICH Version: ", "MPICH ", 1)
}

// Check loads the shim library at path, and with it MPI, without joining a job. It returns the version of MPI.
func Check(path string) (version string, err error) {
	m, err := load(path)
	if err != nil {
		return "", err
	}
	return m.libraryVersion(), nil
}

// check makes an error of MPI's code.
func (m *mpi) check(what string, code C.int) error {
	if code == 0 {
		return nil
	}
	text := (*C.char)(C.calloc(1, 1024))
	defer C.free(unsafe.Pointer(text))
	C.rr_mpi_call_error(m.f, code, text)
	return fmt.Errorf("%s: %s", what, C.GoString(text))
}

// collective is check for an operation of all ranks. If it fails, a rank is gone: heartbeats say which one, and end the job.
func (m *mpi) collective(what string, code C.int) error {
	err := m.check(what, code)
	if err != nil && m.heartbeat != nil {
		m.heartbeat.lost(err)
	}
	return err
}

func (m *mpi) Rank() int      { return m.rank }
func (m *mpi) Size() int      { return m.size }
func (m *mpi) LocalRank() int { return m.localRank }

// maxCount is the most elements of one call: MPI counts in 32 bits.
const maxCount = 1 << 28

// pieces calls f for pieces of n elements that one call of MPI can take.
func (m *mpi) pieces(n int, f func(from, to int) error) error {
	for from := 0; from < n; from += m.most {
		if err := f(from, min(from+m.most, n)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mpi) AllReduce(x []float32, op Op) error {
	return m.pieces(len(x), func(from, to int) error {
		return m.collective("MPI_Allreduce", C.rr_mpi_call_allreduce_f32(m.f, (*C.float)(&x[from]), C.int(to-from), C.int(op)))
	})
}

func (m *mpi) AllReduce64(x []float64, op Op) error {
	return m.pieces(len(x), func(from, to int) error {
		return m.collective("MPI_Allreduce", C.rr_mpi_call_allreduce_f64(m.f, (*C.double)(&x[from]), C.int(to-from), C.int(op)))
	})
}

func (m *mpi) ReduceScatter(x []float32, counts []int) error {
	return m.parts(x, counts, func(x []float32, sizes, offsets []C.int) error {
		err := m.collective("MPI_Reduce_scatter", C.rr_mpi_call_reduce_scatter(m.f, (*C.float)(&x[0]), &sizes[0]))
		if err == nil {
			copy(x[offsets[m.rank]:], x[:sizes[m.rank]])
		}
		return err
	})
}

func (m *mpi) AllGatherParts(x []float32, counts []int) error {
	return m.parts(x, counts, func(x []float32, sizes, offsets []C.int) error {
		return m.collective("MPI_Allgatherv", C.rr_mpi_call_allgather_f32(m.f, (*C.float)(&x[0]), &sizes[0], &offsets[0]))
	})
}

// parts calls f for pieces of x that one call of MPI can take. It gives f how much of each rank's part is in the piece, and where
// that begins there. counts are the lengths of the parts.
func (m *mpi) parts(x []float32, counts []int, f func(piece []float32, sizes, offsets []C.int) error) error {
	total := 0
	for _, n := range counts {
		total += n
	}
	if len(counts) != m.size || total != len(x) {
		return fmt.Errorf("%d parts of %d elements together, want %d parts of %d", len(counts), total, m.size, len(x))
	}
	return m.pieces(len(x), func(from, to int) error {
		sizes, offsets := make([]C.int, m.size), make([]C.int, m.size)
		first, at := 0, 0 // where a rank's part begins in x, and in the piece
		for rank, n := range counts {
			size := max(0, min(to, first+n)-max(from, first))
			sizes[rank], offsets[rank] = C.int(size), C.int(at)
			first, at = first+n, at+size
		}
		return f(x[from:to], sizes, offsets)
	})
}

func (m *mpi) Broadcast(x []float32) error {
	return m.pieces(len(x), func(from, to int) error {
		return m.collective("MPI_Bcast", C.rr_mpi_call_broadcast(m.f, unsafe.Pointer(&x[from]), C.int(4*(to-from)), 0))
	})
}

// gatherBytes is how many bytes of all ranks one call of MPI gathers at most: MPI counts them in 32 bits, and the buffer of a
// call comes beside the result.
const gatherBytes = 1 << 26

func (m *mpi) AllGather(mine []byte) ([][]byte, error) {
	lengths := make([]float64, m.size)
	lengths[m.rank] = float64(len(mine))
	if err := m.AllReduce64(lengths, Sum); err != nil {
		return nil, err
	}
	out, most := make([][]byte, m.size), 0
	for i, n := range lengths {
		out[i], most = make([]byte, 0, int(n)), max(most, int(n))
	}
	for from, size := 0, gatherBytes/m.size; from < most; from += size {
		if err := m.gather(mine[min(from, len(mine)):min(from+size, len(mine))], size, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// gather appends the next bytes of every rank to out, at most size of each. The capacities of out are the ranks' lengths.
func (m *mpi) gather(mine []byte, size int, out [][]byte) error {
	counts, offsets, total := make([]C.int, m.size), make([]C.int, m.size), 0
	for i, b := range out {
		n := min(size, cap(b)-len(b))
		counts[i], offsets[i], total = C.int(n), C.int(total), total+n
	}
	all, from := make([]byte, total), append(slices.Clone(mine), 0) // not empty: its address is taken
	if err := m.collective("MPI_Allgatherv", C.rr_mpi_call_allgather(m.f, unsafe.Pointer(&from[0]), C.int(len(mine)), unsafe.Pointer(&all[0]), &counts[0], &offsets[0])); err != nil {
		return err
	}
	for i := range out {
		out[i] = append(out[i], all[offsets[i]:offsets[i]+counts[i]]...)
	}
	return nil
}

func (m *mpi) Barrier() error { return m.collective("MPI_Barrier", C.rr_mpi_call_barrier(m.f)) }

func (m *mpi) Note(text string) { m.heartbeat.setNote(text) }

func (m *mpi) Close() error {
	if err := m.Barrier(); err != nil {
		return err
	}
	late := m.heartbeat.close()
	defer late.Stop()
	return m.check("MPI_Finalize", C.rr_mpi_call_finalize(m.f))
}

func (m *mpi) Abort(code int) {
	C.rr_words_end()
	time.AfterFunc(abortTime, func() { os.Exit(code) })
	C.rr_mpi_call_abort(m.f, C.int(code))
	os.Exit(code) // MPI_Abort may return before the launcher ends this process
}

// Version is the MPI library's own version; "" without MPI.
func Version(c Comm) string {
	if m, ok := c.(*mpi); ok {
		return m.version
	}
	return ""
}
