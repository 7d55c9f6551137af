package scoring

import (
	"errors"
	"fmt"
	"path/filepath"
	"unicode/utf8"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// constants is the hf.Target that makes parameters constants of a graph. Parameters that a file holds in a usable form stay in
// the file, which ONNX Runtime maps, see runtime.NewModel. Others are copied into memory.
type constants struct {
	int8    bool
	paths   map[string]string // resolved paths of files by the paths in tensors; see resolvePath
	files   map[string][]part
	values  map[string]*onnx.Tensor
	buffers map[string]*runtime.Buffer // the memory of values
	opened  []*weightFile              // the files that files refers to
}

// part is one tensor of a file that makes up a parameter, alone or with others.
type part struct {
	name   string
	tensor *onnx.Tensor
}

func newConstants(int8 bool) *constants {
	return &constants{int8: int8, paths: map[string]string{}, files: map[string][]part{}, values: map[string]*onnx.Tensor{}, buffers: map[string]*runtime.Buffer{}}
}

// Values implements hf.Target. The memory is allocated outside Go's heap, so that it is freed as soon as the session is made:
// the parameters of a model that is quantized are as large as the model.
func (c *constants) Values(p flat.Param) ([]float32, error) {
	b, err := runtime.NewBuffer(int(p.Size()))
	if err != nil {
		return nil, fmt.Errorf("parameter %q: %w", p.Name, err)
	}
	c.buffers[p.Name] = b
	c.values[p.Name] = &onnx.Tensor{DType: onnx.Float32, Dims: p.Dims, Raw: safetensors.FromFloat32(p.Name, b.Data).Data}
	return b.Data, nil
}

// release gives back the memory of a copied parameter, of which nothing reads the values any more. Several goroutines may call it.
func (c *constants) release(name string) {
	if b := c.buffers[name]; b != nil {
		b.Discard()
	}
}

// close frees the memory of copied parameters, and closes the files unless a session has taken them over.
func (c *constants) close() error {
	var errs []error
	for _, b := range c.buffers {
		errs = append(errs, b.Close())
	}
	errs = append(errs, forEach(c.opened, (*weightFile).close))
	clear(c.buffers)
	c.opened = nil
	return errors.Join(errs...)
}

// Take implements hf.Target. A parameter that will be quantized is copied into memory.
func (c *constants) Take(p flat.Param, parts []safetensors.Tensor) error {
	var files []part
	for _, t := range parts {
		if f := c.inFile(t); f != nil {
			files = append(files, part{p.Name + "/" + t.Name, f}) // with the parameter's name, since several files may have tensors of one name
		}
	}
	if len(files) < len(parts) || !sameType(files) || c.int8 && !p.Table {
		values, err := c.Values(p)
		if err != nil {
			return err
		}
		return hf.Read(values, parts)
	}
	for i, t := range parts {
		if err := c.open(files[i].tensor.File.Path); err != nil {
			return err
		}
		if err := t.Finite(); err != nil {
			return err
		}
	}
	c.files[p.Name] = files
	return nil
}

// open opens a file of weights, unless it is open already.
func (c *constants) open(path string) error {
	for _, w := range c.opened {
		if w.path == path {
			return nil
		}
	}
	w, err := openWeightFile(path)
	if err == nil {
		c.opened = append(c.opened, w)
	}
	return err
}

// mappable lists the element types that a graph can read from a file, with safetensors' names.
var mappable = map[string]onnx.DType{"F32": onnx.Float32, "F16": onnx.Float16, "BF16": onnx.BFloat16}

// sameType reports whether all parts have the same element type. A graph cannot concatenate parts of different types.
func sameType(parts []part) bool {
	for _, x := range parts {
		if x.tensor.DType != parts[0].tensor.DType {
			return false
		}
	}
	return true
}

// inFile returns a tensor as a constant that stays in its file, or nil if ONNX Runtime cannot read it there.
func (c *constants) inFile(t safetensors.Tensor) *onnx.Tensor {
	dtype, ok := mappable[t.DType]
	if !ok || t.Path == "" || t.Offset%int64(dtype.Size()) != 0 || len(t.Data) == 0 {
		return nil
	}
	path := c.resolvePath(t.Path)
	if path == "" {
		return nil
	}
	return &onnx.Tensor{DType: dtype, Dims: t.Shape, File: &onnx.FileRange{Path: path, Offset: t.Offset}}
}

// resolvePath returns the absolute path of a file without symbolic links, which ONNX Runtime does not follow. It returns ""
// if that fails or the path is not UTF-8, as protobuf needs it. Each file is resolved only once: it may have hundreds of
// tensors.
func (c *constants) resolvePath(file string) string {
	if path, ok := c.paths[file]; ok {
		return path
	}
	path, err := filepath.Abs(file)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil || !utf8.ValidString(path) {
		path = ""
	}
	c.paths[file] = path
	return path
}

// weights adds the parameters to a graph. A parameter in several parts, or in 16 bits, is concatenated and cast by nodes that
// ONNX Runtime folds when it loads the graph.
func (c *constants) weights(g *onnx.Graph) encoder.Weights {
	values := map[string]*onnx.Value{}
	for name, t := range c.values {
		values[name] = g.Weight(name, t)
	}
	for name, parts := range c.files {
		var joined []*onnx.Value
		for _, f := range parts {
			joined = append(joined, g.Weight(f.name, f.tensor))
		}
		v := g.Concat(0, joined...)
		if v.DType != onnx.Float32 {
			v = g.Cast(v, onnx.Float32)
		}
		values[name] = v
	}
	return weightsByName(g, values)
}
