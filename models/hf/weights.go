package hf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/internal/torchfile"
)

// Files of weights. An index lists the files of a sharded checkpoint.
const (
	SafetensorsFile  = "model.safetensors"
	SafetensorsIndex = "model.safetensors.index.json"
	TorchFile        = "pytorch_model.bin"
	TorchIndex       = "pytorch_model.bin.index.json"
)

// Weights holds the tensors of a folder or a file. Close it after the last use of a tensor's data.
type Weights struct {
	Path     string // of the file or index that was opened, for messages
	Metadata map[string]string
	Tensors  []safetensors.Tensor
	byName   map[string]int
	files    []interface{ Close() error }

	adapter      *adapter                      // nil without one
	adapterNames func(param string) [][]string // see NameAdapter
}

// OpenWeights opens a folder's weights: model.safetensors, its shards, pytorch_model.bin or its shards, in this order. If the folder has
// an adapter too, Fill merges it into the parameters.
func OpenWeights(dir string) (*Weights, error) {
	w, err := openBase(dir)
	if err != nil {
		return nil, err
	}
	there, err := IsAdapter(dir)
	if err == nil && there {
		w.adapter, err = openAdapter(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the model: %w", err), w.Close())
	}
	return w, nil
}

// openBase opens a folder's weights without its adapter.
func openBase(dir string) (*Weights, error) {
	w := &Weights{Path: dir, byName: map[string]int{}}
	for _, name := range []string{SafetensorsFile, SafetensorsIndex, TorchFile, TorchIndex} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		w.Path = path
		var err error
		if strings.HasSuffix(name, ".index.json") {
			err = w.addShards(dir, path)
		} else {
			err = w.add(path)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading the model: %w", err), w.Close())
		}
		return w, nil
	}
	return nil, fmt.Errorf("reading the model: %s has no weights: want %s, %s or an index of shards", dir, SafetensorsFile, TorchFile)
}

// OpenFile opens one file of tensors, .safetensors or a PyTorch file.
func OpenFile(path string) (*Weights, error) {
	w := &Weights{Path: path, byName: map[string]int{}}
	if err := w.add(path); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// addShards adds the tensors of all files that an index lists, and checks that they have the tensors that it names.
func (w *Weights) addShards(dir, index string) error {
	var x struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := ReadJSON(index, &x); err != nil {
		return err
	}
	var shards []string
	for _, shard := range x.WeightMap {
		if !filepath.IsLocal(shard) {
			return fmt.Errorf("%s: weight_map names %q, which is outside the folder", index, shard)
		}
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	for _, shard := range slices.Compact(shards) {
		if err := w.add(filepath.Join(dir, shard)); err != nil {
			return err
		}
	}
	for name := range x.WeightMap {
		if _, ok := w.byName[modernName(name)]; !ok {
			return fmt.Errorf("%s: tensor %q is not in the shard %s", index, name, x.WeightMap[name])
		}
	}
	return nil
}

// add adds the tensors of one file.
func (w *Weights) add(path string) error {
	var tensors []safetensors.Tensor
	if strings.HasSuffix(path, ".safetensors") {
		f, err := safetensors.Open(path)
		if err != nil {
			return err
		}
		w.files, w.Metadata, tensors = append(w.files, f), f.Metadata, f.Tensors
	} else {
		f, err := torchfile.Open(path)
		if err != nil {
			return err
		}
		w.files, tensors = append(w.files, f), f.Tensors
	}
	for _, t := range tensors {
		t.Name = modernName(t.Name)
		if _, dup := w.byName[t.Name]; dup {
			return fmt.Errorf("%s: a second tensor %q", path, t.Name)
		}
		w.byName[t.Name] = len(w.Tensors)
		w.Tensors = append(w.Tensors, t)
	}
	return nil
}

// modernName replaces TensorFlow's old names of LayerNorm's parameters, gamma and beta, by weight and bias.
func modernName(name string) string {
	if base, ok := strings.CutSuffix(name, "LayerNorm.gamma"); ok {
		return base + "LayerNorm.weight"
	}
	if base, ok := strings.CutSuffix(name, "LayerNorm.beta"); ok {
		return base + "LayerNorm.bias"
	}
	return name
}

// Has reports whether there is a tensor of this name.
func (w *Weights) Has(name string) bool {
	_, ok := w.Tensor(name)
	return ok
}

// Tensor returns the tensor of this name: the adapter's, if it has one in place of the base's.
func (w *Weights) Tensor(name string) (safetensors.Tensor, bool) {
	if w.adapter != nil {
		if t, ok := w.adapter.saved[name]; ok {
			return t, true
		}
	}
	i, ok := w.byName[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return w.Tensors[i], true
}

// RowName returns the name of row i of a tensor after AddRows.
func RowName(tensor string, i int64) string { return fmt.Sprintf("%s[%d]", tensor, i) }

// AddRows adds some rows of a tensor [rows, columns] as tensors [1, columns]. A parameter can then be made from these rows
// without reading the others.
func (w *Weights) AddRows(name string, rows []int64) error {
	t, ok := w.Tensor(name)
	if !ok {
		return fmt.Errorf("%s: no tensor %q", w.Path, name)
	}
	if len(t.Shape) != 2 || t.Shape[0] == 0 {
		return fmt.Errorf("%s: tensor %q has the shape %v, want [rows, columns]", w.Path, name, t.Shape)
	}
	width := int64(len(t.Data)) / t.Shape[0] // bytes
	for _, i := range rows {
		if i < 0 || i >= t.Shape[0] {
			return fmt.Errorf("%s: tensor %q has no row %d", w.Path, name, i)
		}
		row := safetensors.Tensor{Name: RowName(name, i), DType: t.DType, Shape: []int64{1, t.Shape[1]}, Data: t.Data[i*width : (i+1)*width], Path: t.Path, Offset: t.Offset + i*width}
		if w.adapter != nil {
			if err := w.adapter.patchRow(&row, name, i); err != nil {
				return fmt.Errorf("%s: %w", w.adapter.path, err)
			}
		}
		w.byName[row.Name] = len(w.Tensors)
		w.Tensors = append(w.Tensors, row)
	}
	return nil
}

// Close closes the files.
func (w *Weights) Close() error {
	if w == nil {
		return nil
	}
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	if w.adapter != nil {
		errs = append(errs, w.adapter.file.Close())
	}
	w.files, w.Tensors, w.adapter = nil, nil, nil
	return errors.Join(errs...)
}

// Replace returns the folder's tensors, with those in with replaced by name. Tensors of other names are appended.
func (w *Weights) Replace(with []safetensors.Tensor) []safetensors.Tensor {
	out := slices.Clone(w.Tensors)
	for _, t := range with {
		if i, ok := w.byName[t.Name]; ok {
			out[i] = t
		} else {
			out = append(out, t)
		}
	}
	return out
}
