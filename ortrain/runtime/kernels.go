package runtime

/*
#include "native.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"rag-retrieval-go/ortrain/kernels"
)

// substitute puts the kernels of this program into a graph for the CPU.
func (o Options) substitute(model []byte) ([]byte, error) {
	if o.provider() != CPU || o.StockOperators {
		return model, nil
	}
	unit := o.BF16
	if unit == kernels.ARM64 { // ONNX Runtime computes these products itself
		unit = kernels.None
	}
	return kernels.Substitute(model, unit, o.Weights)
}

// addKernels adds their operators to a session's options.
func addKernels(so *ort.SessionOptions) error {
	d, err := libraryInterface()
	if err == nil {
		err = kernels.AddOperators(unsafe.Pointer(d.api), firstPointer(unsafe.Pointer(so)))
	}
	if err != nil {
		return fmt.Errorf("kernels: %w", err)
	}
	return nil
}
