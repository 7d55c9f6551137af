package runtime

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"
)

// Port is an input or output of an ONNX file.
type Port struct {
	Name  string
	Dims  []int64 // -1 for a size that is known only when the graph runs
	Float bool    // float32
	Int   bool    // int64
}

// File is a session for an ONNX file that another program exported. The shape of its output need not be known before a run.
// Several goroutines may run it at once.
type File struct {
	path   string
	s      *ort.DynamicAdvancedSession
	inputs []string
	output string
}

// OpenFile loads an ONNX file. The function choose selects the inputs that Run will set and the output that Run returns.
func OpenFile(path string, o Options, choose func(inputs, outputs []Port) (in []string, out string, err error)) (*File, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	ins, outs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("%s: ONNX Runtime: %w", path, err)
	}
	f := &File{path: path}
	if f.inputs, f.output, err = choose(ports(ins), ports(outs)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	so, err := o.sessionOptions()
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime session options: %w", err)
	}
	defer so.Destroy()
	if f.s, err = ort.NewDynamicAdvancedSession(path, f.inputs, []string{f.output}, so); err != nil {
		return nil, fmt.Errorf("%s: ONNX Runtime: %w", path, err)
	}
	return f, nil
}

func ports(infos []ort.InputOutputInfo) []Port {
	var out []Port
	for _, x := range infos {
		if x.OrtValueType != ort.ONNXTypeTensor {
			continue
		}
		out = append(out, Port{
			Name: x.Name, Dims: x.Dimensions,
			Float: x.DataType == ort.TensorElementDataTypeFloat, Int: x.DataType == ort.TensorElementDataTypeInt64,
		})
	}
	return out
}

// Run runs the graph. The inputs are int64, all of shape dims, in the order that choose returned. Run returns a copy of the
// output's float32 values and its shape.
func (f *File) Run(inputs [][]int64, dims ...int64) (values []float32, shape []int64, err error) {
	in := make([]ort.Value, len(inputs))
	defer func() {
		for _, v := range in {
			if v != nil {
				err = errors.Join(err, v.Destroy())
			}
		}
	}()
	for i, data := range inputs {
		t, err := ort.NewTensor(ort.Shape(dims), data)
		if err != nil {
			return nil, nil, fmt.Errorf("ONNX Runtime tensor of shape %v: %w", dims, err)
		}
		in[i] = t
	}
	out := []ort.Value{nil}
	if err := f.s.Run(in, out); err != nil {
		return nil, nil, fmt.Errorf("%s: ONNX Runtime: %w", f.path, explainError(err))
	}
	defer func() { err = errors.Join(err, out[0].Destroy()) }()
	t, ok := out[0].(*ort.Tensor[float32])
	if !ok {
		return nil, nil, fmt.Errorf("%s: the output %q is not float32", f.path, f.output)
	}
	return append([]float32(nil), t.GetData()...), append([]int64(nil), t.GetShape()...), nil
}

// Close frees the session.
func (f *File) Close() error { return f.s.Destroy() }
