package runtime

/*
#include "native.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"math"
	goruntime "runtime"
	"strconv"
	"sync/atomic"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/kernels"
	"rag-retrieval-go/ortrain/onnx"
)

// Model is a graph that sessions can be opened for. The sessions share the weights that were packed for its products in bfloat16.
type Model struct {
	graph   *kernels.Graph
	weights []*onnx.Value // that are beside the graph's file
	packed  *packedWeights
	options Options
}

// NewModel makes a model of the bytes of an ONNX file, and of the weights that are not in them, see onnx.Graph.BytesWithoutWeights. ONNX
// Runtime maps weights that are in files and releases their pages after packing them, so that a model takes little more memory than its
// packed layers. It copies the weights given here in memory. Those of products in bfloat16 are packed at once; release, unless it
// is nil, is called with the name of each weight of which nobody needs the data any more, from several goroutines at once.
func NewModel(model []byte, weights []*onnx.Value, release func(name string), o Options) (*Model, error) {
	from := kernels.Options{Memory: map[string][]byte{}, Release: release, Folder: onnx.ExternalRoot}
	for _, w := range weights {
		from.Memory[w.Name] = w.Const.Raw
	}
	config := map[string]string{
		externalFolder: onnx.ExternalRoot,
		foldingLimit:   strconv.FormatInt(math.MaxInt64, 10),
	}
	maps.Copy(config, o.Config)
	o.Config = config
	return newModel(model, weights, from, o)
}

func newModel(model []byte, weights []*onnx.Value, from kernels.Options, o Options) (*Model, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	graph, err := o.substitute(model, from)
	if err != nil {
		return nil, err
	}
	m := &Model{graph: graph, options: o}
	for _, w := range weights {
		if graph.Constants == nil || graph.Constants[w.Name] {
			m.weights = append(m.weights, w)
		}
	}
	if m.packed, err = newPackedWeights(graph.Packed); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Open opens a session with so many threads within an operator; 0 means one per core.
func (m *Model) Open(threads int) (*Session, error) {
	o := m.options
	o.Threads = threads
	s, err := newSession(o, func(so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		for _, w := range m.weights {
			if err := addWeight(so, w.Name, w.Const); err != nil {
				return nil, fmt.Errorf("weight %q: %w", w.Name, err)
			}
		}
		if err := m.packed.add(so); err != nil {
			return nil, err
		}
		return ort.NewDynamicAdvancedSessionWithONNXData(m.graph.Model, nil, nil, so)
	})
	goruntime.KeepAlive(m)
	if err != nil {
		return nil, err
	}
	if s.packed = m.packed.retain(); m.graph.Versioned {
		s.weights = o.Weights
	}
	return s, nil
}

// Close frees what no session uses. Sessions that are open stay open.
func (m *Model) Close() error {
	if m == nil {
		return nil
	}
	err := m.packed.release()
	m.packed = nil
	return err
}

// open opens the only session of a model with the model's options.
func (m *Model) open() (*Session, error) {
	s, err := m.Open(m.options.Threads)
	if closing := m.Close(); err == nil && closing != nil {
		return nil, errors.Join(closing, s.Close())
	}
	return s, err
}

// packedWeights are initializers that sessions read where they are. They live until the model and all its sessions are closed.
type packedWeights struct {
	memory *kernels.Packed
	values []*C.OrtValue
	users  atomic.Int32
}

// newPackedWeights takes over the memory. It returns nil for nil.
func newPackedWeights(memory *kernels.Packed) (*packedWeights, error) {
	if memory == nil {
		return nil, nil
	}
	p := &packedWeights{memory: memory}
	p.users.Store(1)
	d, err := libraryInterface()
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	for _, w := range memory.Weights {
		var v *C.OrtValue
		dims := C.int64_t(len(w.Data))
		if err := nativeError(C.rr_tensor(d, unsafe.Pointer(unsafe.SliceData(w.Data)), C.size_t(len(w.Data)), &dims, 1, C.int(onnx.Uint8), &v)); err != nil {
			return nil, errors.Join(err, p.release())
		}
		p.values = append(p.values, v)
	}
	return p, nil
}

// add adds the initializers to the options of a session.
func (p *packedWeights) add(so *ort.SessionOptions) error {
	if p == nil {
		return nil
	}
	d, err := libraryInterface()
	if err != nil {
		return err
	}
	for i, v := range p.values {
		name := C.CString(p.memory.Weights[i].Name)
		err := nativeError(C.rr_share_weight(d, firstPointer(unsafe.Pointer(so)), name, v))
		C.free(unsafe.Pointer(name))
		if err != nil {
			return fmt.Errorf("weight %q: %w", p.memory.Weights[i].Name, err)
		}
	}
	return nil
}

func (p *packedWeights) retain() *packedWeights {
	if p != nil {
		p.users.Add(1)
	}
	return p
}

// release frees the memory after the last user.
func (p *packedWeights) release() error {
	if p == nil || p.users.Add(-1) > 0 {
		return nil
	}
	if d, err := libraryInterface(); err == nil {
		for _, v := range p.values {
			C.rr_release(d, v)
		}
	}
	return p.memory.Close()
}

// Session config entries of NewModel.
const (
	// externalFolder is the folder that the paths of external data are relative to.
	externalFolder = "session.model_external_initializers_file_folder_path"
	// foldingLimit is the largest constant that is folded. Weights that a file holds in parts or in 16 bits are joined
	// and widened only once, when the session is opened.
	foldingLimit = "optimization.constant_folding_max_output_size_in_bytes"
)

// addWeight adds one weight to a session's options.
func addWeight(so *ort.SessionOptions, name string, t *onnx.Tensor) error {
	if int64(len(t.Raw)) != onnx.Elements(t.Dims)*int64(t.DType.Size()) || len(t.Raw) == 0 {
		return fmt.Errorf("%d bytes for %v of shape %v", len(t.Raw), t.DType, t.Dims)
	}
	d, err := libraryInterface()
	if err != nil {
		return err
	}
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return nativeError(C.rr_weight(d, firstPointer(unsafe.Pointer(so)), n, unsafe.Pointer(unsafe.SliceData(t.Raw)), C.size_t(len(t.Raw)),
		(*C.int64_t)(unsafe.SliceData(t.Dims)), C.size_t(len(t.Dims)), C.int(t.DType)))
}
