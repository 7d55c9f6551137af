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

// Weights are graph inputs that change only between calls of Changed. They belong to whoever changes them, such as a trainer; the
// sessions of one owner share them. Products in bfloat16 pack them once until the next call.
type Weights struct {
	is      func(name string) bool
	version []int64 // one, an input of the sessions: kernels.VersionInput
}

// NewWeights makes weights of the inputs of which is returns true.
func NewWeights(is func(name string) bool) *Weights { return &Weights{is, make([]int64, 1)} }

// Changed says that the weights may have other values in the next run. No session of the same owner may run meanwhile.
func (w *Weights) Changed() { w.version[0]++ }

// substitute puts the kernels of this program into a graph for the CPU.
func (o Options) substitute(model []byte, from kernels.Options) (*kernels.Graph, error) {
	if o.provider() != CPU || o.StockOperators {
		return &kernels.Graph{Model: model}, nil
	}
	from.Threads = o.Threads
	if o.BF16 != kernels.ARM64 { // ONNX Runtime computes these products itself
		from.Unit = o.BF16
	}
	if o.Weights != nil {
		from.Weights = o.Weights.is
	}
	return kernels.Substitute(model, from)
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
