package runtime

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"maps"
	"math"
	goruntime "runtime"
	"strconv"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/onnx"
)

// NewSessionWithWeights opens a session for a graph whose weights are not in the bytes of its ONNX file; see
// onnx.Graph.BytesWithoutWeights. ONNX Runtime maps weights that are in files and releases their pages after packing them, so that a
// model takes little more memory than its packed layers. It copies the weights given here in memory.
func NewSessionWithWeights(model []byte, weights []*onnx.Value, o Options) (*Session, error) {
	model, err := o.substitute(model)
	if err != nil {
		return nil, err
	}
	config := map[string]string{
		externalFolder: onnx.ExternalRoot,
		foldingLimit:   strconv.FormatInt(math.MaxInt64, 10),
	}
	maps.Copy(config, o.Config)
	o.Config = config
	s, err := newSession(o, func(so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		for _, w := range weights {
			if err := addWeight(so, w.Name, w.Const); err != nil {
				return nil, fmt.Errorf("weight %q: %w", w.Name, err)
			}
		}
		return ort.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, so)
	})
	goruntime.KeepAlive(weights)
	return s, err
}

// Session config entries of NewSessionWithWeights.
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
