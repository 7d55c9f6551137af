package runtime

/*
#cgo CFLAGS: -I${SRCDIR}/../../.rag-retrieval/include
#cgo linux LDFLAGS: -ldl
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/onnx"
)

// Device is the memory that a provider computes in. Blocks taken from it stay where they are between runs: only what is
// bound from the host's memory is copied. All sessions on the device share one arena.
//
// A nil Device is the host's memory, which the CPU provider computes in without any copy.
type Device struct {
	native C.rr_device
	shared bool // sessions share its arena, which deviceOpen says is taken
	// The graph that copies: up and down differ in where its input and output lie.
	copies *Session
	copy   *Binding
}

// copied is how many elements are copied at once: what is on its way lies in the device's memory twice.
const copied = 4 << 20

// The names of the memories that ONNX Runtime's providers compute in.
var memories = map[string]struct{ memory, provider string }{
	CUDA: {"Cuda", "CUDAExecutionProvider"},
	CPU:  {"Cpu", "CPUExecutionProvider"},
}

// deviceOpen says that this process has taken CUDA's memory.
var deviceOpen atomic.Bool

// OpenDevice opens the memory of the options' provider, which Resolve gave. On the CPU that is ONNX Runtime's own
// allocator: slower than the host's memory, and of use where a machine without a GPU is to try what would be done on one.
// CUDA's memory is opened once at a time.
func OpenDevice(o Options) (*Device, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	d := &Device{}
	if err := d.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("memory of the device: %w", err), d.Close())
	}
	return d, nil
}

func (d *Device) open(o Options) (err error) {
	kind, ok := memories[o.provider()]
	if !ok {
		return fmt.Errorf("no memory of the provider %q", o.Provider)
	}
	path, name := C.CString(loading.path), C.CString(kind.memory)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(name))
	if err := native(C.rr_open(&d.native, path, name)); err != nil {
		return err
	}
	if o.Provider == CUDA {
		if err := d.share(kind.provider, o.MemoryLimit); err != nil {
			return err
		}
	}
	if err := d.openCopy(o); err != nil {
		return err
	}
	session := first(unsafe.Pointer(d.copies.s)) // the library's own, whose first field is ONNX Runtime's
	return native(C.rr_use(&d.native, first(session)))
}

// share makes the arena of all sessions on the device, of at most limit bytes; 0: without a limit.
func (d *Device) share(provider string, limit int64) error {
	if !deviceOpen.CompareAndSwap(false, true) {
		return errors.New("it is open already: a process has one arena for all sessions")
	}
	p, l := C.CString(provider), C.CString(strconv.FormatInt(limit, 10))
	defer C.free(unsafe.Pointer(p))
	defer C.free(unsafe.Pointer(l))
	err := native(C.rr_share(&d.native, p, l))
	d.shared = err == nil
	deviceOpen.Store(d.shared)
	return err
}

// openCopy opens the graph that copies.
func (d *Device) openCopy(o Options) error {
	o.Device, o.Profile = d, ""
	g := onnx.NewGraph("copy")
	g.Output("to", g.Identity(g.Input("from", onnx.Float32, onnx.N("elements"))))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	if d.copies, err = NewSession(model, o); err != nil {
		return err
	}
	d.copy, err = d.copies.NewBinding()
	return err
}

// first is the pointer that a struct begins with: onnxruntime_go keeps its native pointers there, and to itself.
func first(p unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(p) }

// native makes an error of a message, and frees it.
func native(message *C.char) error {
	if message == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(message))
	return errors.New(C.GoString(message))
}

// loadLibrary loads a library by its path, or by its name where the loader finds it.
func loadLibrary(path string) error {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	return native(C.rr_load(p))
}

// alloc takes memory for n float32.
func (d *Device) alloc(n int) (p unsafe.Pointer, err error) {
	if err := native(C.rr_alloc(&d.native, C.size_t(4*n), &p)); err != nil {
		return nil, fmt.Errorf("%d MiB of the device's memory: %w", 4*n>>20, explain(err))
	}
	return p, nil
}

func (d *Device) free(p unsafe.Pointer) error { return native(C.rr_free(&d.native, p)) }

// tensor makes a float32 tensor over memory of the device.
func (d *Device) tensor(p unsafe.Pointer, dims []int64) (*Tensor, error) {
	v := &deviceValue{d: d}
	err := native(C.rr_tensor(&d.native, p, C.size_t(4*onnx.Elements(dims)), (*C.int64_t)(unsafe.SliceData(dims)),
		C.size_t(len(dims)), C.ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &v.value))
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v on the device: %w", dims, err)
	}
	return newTensor(v), nil
}

// wait waits until what was bound has been copied to where the session reads it.
func (b *Binding) wait() error {
	if !b.session.copies {
		return nil
	}
	d, err := interfaceOnly()
	if err != nil {
		return err
	}
	return native(C.rr_wait(d, first(unsafe.Pointer(b.b))))
}

// interfaceOnly is the library's interface, for calls that need no memory.
var interfaceOnly = sync.OnceValues(func() (*C.rr_device, error) {
	d := &C.rr_device{}
	path, name := C.CString(loading.path), C.CString(memories[CPU].memory)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(name))
	return d, native(C.rr_open(d, path, name))
})

// Close frees what the device was opened with. Its blocks, and all sessions on it, must be closed before.
func (d *Device) Close() error {
	if d == nil {
		return nil
	}
	err := errors.Join(d.copy.Close(), d.copies.Close())
	shared := C.int(0)
	if d.shared {
		shared = 1
	}
	err = errors.Join(err, native(C.rr_close(&d.native, shared)))
	if d.shared {
		deviceOpen.Store(false)
	}
	return err
}

// deviceValue is a value that onnxruntime_go binds and runs like its own. It only hands the pointer over: the methods of
// the embedded interface are never called.
type deviceValue struct {
	ort.Value
	d     *Device
	value *C.OrtValue
}

// GetInternals gives the pointer in the library's own wrapper, a struct of that pointer alone.
func (v *deviceValue) GetInternals() *ort.ValueInternalData {
	return (*ort.ValueInternalData)(unsafe.Pointer(&v.value))
}

// Destroy frees the value, not its memory.
func (v *deviceValue) Destroy() error {
	C.rr_release(&v.d.native, v.value)
	v.value = nil
	return nil
}
