package hf

import (
	"fmt"
	"slices"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// TensorNames returns the names of the tensors in a checkpoint that make up one parameter. They are equal parts of it, to be
// concatenated along the first axis: a fused projection, for example, may be split in a checkpoint.
type TensorNames func(param string) []string

// Fill passes parameters to a target. A missing tensor or one with a wrong shape is an error that names it. If no tensor of
// a parameter is there, initialize fills the parameter; if initialize is nil, this is an error too. The folder's adapter is merged into the
// parameters that it changes; if it has more modules than these, Fill fails, except for heads that a kind of model does not read.
// If params have an adapter's matrices, the adapter is trained further: it is not merged but read into them. A change of a frozen parameter is
// an error then, because it would not be saved.
func (w *Weights) Fill(to Target, params []flat.Param, names TensorNames, initialize func(p flat.Param, values []float32) error) error {
	kept := w.keptModules(params)
	for _, p := range params {
		if w.adapter != nil && IsMatrix(p) {
			if err := w.takeMatrix(to, p); err != nil {
				return err
			}
			continue
		}
		parts := names(p.Name)
		patches := w.patches(p, parts, kept)
		if kept != nil && p.Frozen {
			if err := w.adapter.checkFrozen(parts, patches); err != nil {
				return err
			}
		}
		if len(patches) > 0 {
			if err := w.takePatched(to, p, parts, patches); err != nil {
				return err
			}
			continue
		}
		if initialize != nil && !slices.ContainsFunc(parts, w.Has) {
			values, err := to.Values(p)
			if err != nil {
				return err
			}
			if err := initialize(p, values); err != nil {
				return err
			}
			continue
		}
		if err := w.takeParam(to, p, parts); err != nil {
			return err
		}
	}
	if w.adapter != nil {
		return w.adapter.checkUsed()
	}
	return nil
}

// takeParam passes the tensors of one parameter to a target.
func (w *Weights) takeParam(to Target, p flat.Param, parts []string) error {
	tensors, err := w.partsOf(p, parts)
	if err != nil {
		return err
	}
	if err := to.Take(p, tensors); err != nil {
		return fmt.Errorf("%s: %w", w.Path, err)
	}
	return nil
}

// partsOf returns the tensors of one parameter.
func (w *Weights) partsOf(p flat.Param, parts []string) ([]safetensors.Tensor, error) {
	want := slices.Clone(p.Dims)
	want[0] /= int64(len(parts))
	tensors := make([]safetensors.Tensor, len(parts))
	for i, name := range parts {
		t, ok := w.Tensor(name)
		if !ok {
			return nil, fmt.Errorf("%s: no tensor %q", w.Path, name)
		}
		if !slices.Equal(t.Shape, want) {
			return nil, fmt.Errorf("%s: tensor %q has the shape %v, config.json says %v", w.Path, name, t.Shape, want)
		}
		tensors[i] = t
	}
	return tensors, nil
}

// Target receives the parameters of a model's folder. Training uses a Buffer; scoring makes them constants of a graph.
type Target interface {
	// Take receives a parameter as tensors of a checkpoint, to be concatenated along the first axis. Their data are valid
	// until Take returns. A NaN or an infinity is an error.
	Take(p flat.Param, parts []safetensors.Tensor) error
	// Values returns the memory of a parameter that is no tensor of the checkpoint as it is: p.Size() zeros, which the caller fills.
	// The checkpoint does not have the parameter, or an adapter changes it.
	Values(p flat.Param) ([]float32, error)
}

// Buffer is the Target that reads every parameter into a flat buffer.
type Buffer struct {
	Layout *flat.Layout
	Data   []float32
}

// Take implements Target.
func (b Buffer) Take(p flat.Param, parts []safetensors.Tensor) error {
	values, err := b.Values(p)
	if err != nil {
		return err
	}
	return Read(values, parts)
}

// Values implements Target.
func (b Buffer) Values(p flat.Param) ([]float32, error) { return b.Layout.View(b.Data, p.Name) }

// Read fills values with the elements of tensors of equal size, one after the other. A NaN or an infinity is an error.
func Read(values []float32, parts []safetensors.Tensor) error {
	share := len(values) / len(parts)
	for i, t := range parts {
		if err := t.Read(values[i*share : (i+1)*share]); err != nil {
			return err
		}
		if err := safetensors.FromFloat32(t.Name, values[i*share:(i+1)*share]).Finite(); err != nil {
			return err
		}
	}
	return nil
}
