package runtime

/*
#include "native.h"
*/
import "C"

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/kernels"
)

// OpenVINOVariable is the environment variable with the path of OpenVINO's plug-in, to use instead of the installed one.
const OpenVINOVariable = "RAG_RETRIEVAL_OPENVINO_LIB"

// ErrNoOpenVINO says that the OpenVINO execution provider does not work here. The error that wraps it says why and what to do.
var ErrNoOpenVINO = errors.New("OpenVINO does not work here")

// The names of the plug-in: its file, in the folder that scripts/setup.sh --openvino links, and its provider.
const (
	openVINOLibrary  = "openvino/libonnxruntime_providers_openvino_plugin.so"
	openVINOProvider = "OpenVINOExecutionProvider"
)

// OpenVINODevice is the CPU as OpenVINO computes on it.
type OpenVINODevice struct {
	Path string // of the plug-in
	BF16 bool   // it has instructions for products in bfloat16

	native *C.OrtEpDevice // ONNX Runtime owns it until the process ends
}

// FindOpenVINO loads OpenVINO's plug-in into ONNX Runtime at the first call. It stays loaded until the process ends.
var FindOpenVINO = sync.OnceValues(func() (OpenVINODevice, error) {
	d, err := loadOpenVINO()
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrNoOpenVINO, err)
	}
	return d, nil
})

func loadOpenVINO() (v OpenVINODevice, err error) {
	if err := Load(""); err != nil {
		return v, err
	}
	if v.Path, err = openVINOPath(); err != nil {
		return v, err
	}
	if err := ort.RegisterExecutionProviderLibrary(OpenVINO, v.Path); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
		return v, fmt.Errorf("loading the plug-in: %s (%s names a plug-in of version 1.8)", first, OpenVINOVariable)
	}
	d, err := libraryInterface()
	if err != nil {
		return v, err
	}
	name, key := C.CString(openVINOProvider), C.CString("OPTIMIZATION_CAPABILITIES")
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(key))
	var can *C.char
	if err := nativeError(C.rr_find_cpu(d, name, key, &v.native, &can)); err != nil {
		return v, err
	}
	if v.native == nil {
		return v, errors.New("the plug-in takes only CPUs of Intel, and this is none")
	}
	v.BF16 = can != nil && strings.Contains(C.GoString(can), "BF16")
	return v, nil
}

// openVINOPath returns the path of the plug-in.
func openVINOPath() (string, error) {
	if p := os.Getenv(OpenVINOVariable); p != "" {
		if _, err := os.Stat(p); err != nil {
			return "", fmt.Errorf("%s: %w", OpenVINOVariable, err)
		}
		return filepath.Abs(p)
	}
	path, err := Find(openVINOLibrary)
	if err != nil {
		return "", fmt.Errorf("%w; run scripts/setup.sh --openvino, or set %s", err, OpenVINOVariable)
	}
	return filepath.EvalSymlinks(path) // the plug-in looks for OpenVINO's other libraries in its own folder
}

// appendOpenVINO adds the OpenVINO provider to a session's options.
func appendOpenVINO(so *ort.SessionOptions, o Options) error {
	device, err := FindOpenVINO()
	if err != nil {
		return err
	}
	d, err := libraryInterface()
	if err != nil {
		return err
	}
	key, value := C.CString("load_config"), C.CString(openVINOConfig(o))
	defer C.free(unsafe.Pointer(key))
	defer C.free(unsafe.Pointer(value))
	return nativeError(C.rr_append_provider(d, firstPointer(unsafe.Pointer(so)), device.native, key, value))
}

// openVINOConfig is the JSON of OpenVINO's properties.
func openVINOConfig(o Options) string {
	precision := "f32" // without it, OpenVINO takes bfloat16 by itself on a CPU that has it
	if o.BF16 == kernels.OpenVINO {
		precision = "bf16"
	}
	text, _ := json.Marshal(map[string]map[string]string{"CPU": { // cannot fail: a map of texts
		"INFERENCE_PRECISION_HINT": precision,
		"INFERENCE_NUM_THREADS":    strconv.Itoa(cmp.Or(o.Threads, goruntime.NumCPU())),
		"ENABLE_HYPER_THREADING":   "YES", // threads are as many as asked for, also on the second threads of cores
		"ENABLE_CPU_PINNING":       "NO",  // ranks and sessions would be pinned to the same cores
	}})
	return string(text)
}

// WithoutOpenVINO returns the options with the CPU provider in place of OpenVINO. It is for small graphs such as the comparison of
// vectors, which gain nothing from it.
func (o Options) WithoutOpenVINO() Options {
	if o.Provider == OpenVINO {
		o.Provider, o.BF16 = CPU, kernels.None
	}
	return o
}
