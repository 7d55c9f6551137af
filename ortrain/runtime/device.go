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

// Device is the memory of an execution provider. Blocks allocated in it stay there between runs; only inputs bound from
// host memory are copied for each run. All sessions on the device share one arena.
//
// A nil *Device means host memory, in which the CPU provider computes without any copy.
type Device struct {
	native    C.rr_device
	ownsArena bool // the device made the arena that all sessions share; see arenaTaken
	// A graph that copies its input to its output. Uploads and downloads differ in which of the two is on the host.
	copySession *Session
	copyBinding *Binding
}

// maxCopy is the most elements that one run of the copy graph copies. They take up device memory twice meanwhile.
const maxCopy = 4 << 20

// providerMemory holds ONNX Runtime's names of the memory of each provider.
var providerMemory = map[string]struct{ memory, provider string }{
	CUDA: {"Cuda", "CUDAExecutionProvider"},
	CPU:  {"Cpu", "CPUExecutionProvider"},
}

// arenaTaken says that a Device of this process has made the CUDA arena. There is at most one.
var arenaTaken atomic.Bool

// OpenDevice opens the memory of the options' provider, CPU or CUDA (see Resolve). CUDA can be open only once at a time.
// For the CPU, use a nil *Device instead: OpenDevice uses ONNX Runtime's own allocator there, which is slower. It lets a
// machine without a GPU test the code for devices.
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
	kind, ok := providerMemory[o.provider()]
	if !ok {
		return fmt.Errorf("no memory of the provider %q", o.Provider)
	}
	path, name := C.CString(library.path), C.CString(kind.memory)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(name))
	if err := nativeError(C.rr_open(&d.native, path, name, C.int(o.DeviceID))); err != nil {
		return err
	}
	if o.Provider == CUDA {
		if err := d.createArena(kind.provider, o.DeviceID, o.MemoryLimit); err != nil {
			return err
		}
	}
	if err := d.openCopy(o); err != nil {
		return err
	}
	session := firstPointer(unsafe.Pointer(d.copySession.s)) // the OrtSession
	return nativeError(C.rr_use(&d.native, firstPointer(session)))
}

// createArena makes the arena that all sessions on the device share, of at most limit bytes. 0 means no limit.
func (d *Device) createArena(provider string, device int, limit int64) error {
	if !arenaTaken.CompareAndSwap(false, true) {
		return errors.New("the device is open already, and a process has only one arena for all sessions")
	}
	p, l, id := C.CString(provider), C.CString(strconv.FormatInt(limit, 10)), C.CString(strconv.Itoa(device))
	defer C.free(unsafe.Pointer(p))
	defer C.free(unsafe.Pointer(id))
	defer C.free(unsafe.Pointer(l))
	err := nativeError(C.rr_share(&d.native, p, id, l))
	d.ownsArena = err == nil
	arenaTaken.Store(d.ownsArena)
	return err
}

// openCopy opens the copy graph.
func (d *Device) openCopy(o Options) error {
	o.Device, o.Profile = d, ""
	g := onnx.NewGraph("copy")
	g.Output("to", g.Identity(g.Input("from", onnx.Float32, onnx.NamedDim("elements"))))
	model, err := g.Bytes()
	if err != nil {
		return err
	}
	if d.copySession, err = NewSession(model, o); err != nil {
		return err
	}
	d.copyBinding, err = d.copySession.NewBinding()
	return err
}

// firstPointer returns the pointer in the first field of a struct. onnxruntime_go keeps its C pointers there, unexported.
func firstPointer(p unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(p) }

// nativeError makes an error from a C message and frees the message. A null message is no error.
func nativeError(message *C.char) error {
	if message == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(message))
	return errors.New(C.GoString(message))
}

// loadLibrary loads a shared library by its path, or by its name if the system's loader can find it.
func loadLibrary(path string) error {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	return nativeError(C.rr_load(p))
}

// countGPUs asks CUDA's runtime library.
func countGPUs() (int, error) {
	n := C.int(0)
	if err := nativeError(C.rr_gpus(&n)); err != nil {
		return 0, fmt.Errorf("counting GPUs: %w", err)
	}
	return int(n), nil
}

// alloc allocates memory for n float32 values.
func (d *Device) alloc(n int) (p unsafe.Pointer, err error) {
	if err := nativeError(C.rr_alloc(&d.native, C.size_t(4*n), &p)); err != nil {
		return nil, fmt.Errorf("%d MiB of the device's memory: %w", 4*n>>20, explainError(err))
	}
	return p, nil
}

func (d *Device) free(p unsafe.Pointer) error { return nativeError(C.rr_free(&d.native, p)) }

// tensor makes a float32 tensor over memory of the device.
func (d *Device) tensor(p unsafe.Pointer, dims []int64) (*Tensor, error) {
	v := &deviceValue{d: d}
	err := nativeError(C.rr_tensor(&d.native, p, C.size_t(4*onnx.Elements(dims)), (*C.int64_t)(unsafe.SliceData(dims)),
		C.size_t(len(dims)), C.ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &v.value))
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v on the device: %w", dims, err)
	}
	return newTensor(v), nil
}

// waitForInputs waits until the bound inputs have been copied to the device.
func (b *Binding) waitForInputs() error {
	if !b.session.copiesInputs {
		return nil
	}
	d, err := libraryInterface()
	if err != nil {
		return err
	}
	return nativeError(C.rr_wait(d, firstPointer(unsafe.Pointer(b.b))))
}

// libraryInterface gives access to ONNX Runtime's C functions, for calls that need no device.
var libraryInterface = sync.OnceValues(func() (*C.rr_device, error) {
	d := &C.rr_device{}
	path, name := C.CString(library.path), C.CString(providerMemory[CPU].memory)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(name))
	return d, nativeError(C.rr_open(d, path, name, 0))
})

// Close frees the device. Its blocks and all sessions on it must be closed before.
func (d *Device) Close() error {
	if d == nil {
		return nil
	}
	err := errors.Join(d.copyBinding.Close(), d.copySession.Close())
	shared := C.int(0)
	if d.ownsArena {
		shared = 1
	}
	err = errors.Join(err, nativeError(C.rr_close(&d.native, shared)))
	if d.ownsArena {
		arenaTaken.Store(false)
	}
	return err
}

// deviceValue is a tensor in device memory that onnxruntime_go can bind like its own tensors. onnxruntime_go only calls
// GetInternals and Destroy; the other methods of the embedded nil interface are never called.
type deviceValue struct {
	ort.Value
	d     *Device
	value *C.OrtValue
}

// GetInternals returns the OrtValue pointer in onnxruntime_go's wrapper, a struct with only this pointer.
func (v *deviceValue) GetInternals() *ort.ValueInternalData {
	return (*ort.ValueInternalData)(unsafe.Pointer(&v.value))
}

// Destroy frees the OrtValue, but not the memory of its elements.
func (v *deviceValue) Destroy() error {
	C.rr_release(&v.d.native, v.value)
	v.value = nil
	return nil
}
