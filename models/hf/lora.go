package hf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rag-retrieval-go/internal/lowrank"
	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/flat"
)

// adapter has the tensors of an adapter by the names that the modules have in the class of transformers that the adapter was trained
// in: without a prefix for AutoModel, with one such as "bert." inside a whole model.
type adapter struct {
	config AdapterConfig
	path   string // of the file of tensors
	file   *Weights
	low    map[string]*lowRank           // by the path of the module
	saved  map[string]safetensors.Tensor // those of modules_to_save, which replace the base's
	used   map[string]bool               // the keys of low and saved that were read
	rows   map[string]patch              // what has changed a tensor of AddRows, by its name
}

// lowRank is what an adapter adds to a module's weight [out, in]: scale·b·a, with a [rank, in] and b [out, rank].
type lowRank struct {
	a, b  safetensors.Tensor
	scale float64
}

// openAdapter opens the adapter of a folder.
func openAdapter(dir string) (*adapter, error) {
	c, err := ReadAdapterConfig(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{AdapterFile, AdapterTorchFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		path = Origin(path)
		file, err := OpenFile(path)
		if err != nil {
			return nil, err
		}
		x := &adapter{config: c, path: path, file: file, low: map[string]*lowRank{}, saved: map[string]safetensors.Tensor{}, used: map[string]bool{}, rows: map[string]patch{}}
		if err := x.sort(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
		}
		return x, nil
	}
	return nil, fmt.Errorf("%s has no weights of the adapter: want %s or %s", dir, AdapterFile, AdapterTorchFile)
}

// AdaptedModules returns the modules to which the adapter of a folder adds a product, as its tensors name them. That is what counts:
// target_modules may be a regular expression, and layers_to_transform and others narrow it down.
func AdaptedModules(dir string) (modules []string, err error) {
	x, err := openAdapter(dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(x.low)), x.file.Close()
}

// adapterPrefix stands before PEFT's names of tensors.
const adapterPrefix = "base_model.model."

// sort finds out what each tensor of the file is.
func (x *adapter) sort() error {
	for _, t := range x.file.Tensors {
		name := strings.TrimPrefix(t.Name, adapterPrefix)
		module, part, isLow := cutLast(name, ".lora_")
		if !isLow {
			name = strings.NewReplacer(".modules_to_save.default.", ".", ".modules_to_save.", ".").Replace(name) // of older files
			x.saved[name] = t
			continue
		}
		l := x.low[module]
		if l == nil {
			l = &lowRank{}
			x.low[module] = l
		}
		switch part {
		case "A.weight", "A.default.weight":
			l.a = t
		case "B.weight", "B.default.weight":
			l.b = t
		default:
			return fmt.Errorf("tensor %q is not read: only lora_A.weight and lora_B.weight of linear layers are", t.Name)
		}
	}
	for _, module := range slices.Sorted(maps.Keys(x.low)) {
		l := x.low[module]
		if a, b := l.a.Shape, l.b.Shape; len(a) != 2 || len(b) != 2 || a[0] != b[1] {
			return fmt.Errorf("module %q has lora_A of shape %v and lora_B of shape %v, want [rank, in] and [out, rank]", module, a, b)
		}
		var err error
		if l.scale, err = x.config.scale(module, l.a.Shape[0]); err != nil {
			return err
		}
	}
	return nil
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// NameAdapter says how the tensors of a parameter may be named in an adapter: in one of these ways, each of equal parts of the
// parameter, to be concatenated along the first axis. Without it they are named as in the checkpoint.
func (w *Weights) NameAdapter(names func(param string) [][]string) { w.adapterNames = names }

// patch is what an adapter changes of a parameter: one of several equal parts of its rows.
type patch struct {
	part, parts int
	key         string // of low or saved
	low         *lowRank
	saved       safetensors.Tensor // if low is nil
}

// ways are those in which an adapter may name a parameter whose tensors have these names in the checkpoint.
func (w *Weights) ways(param string, names []string) [][]string {
	if w.adapterNames == nil {
		return [][]string{names}
	}
	return append([][]string{names}, w.adapterNames(param)...)
}

// patches returns what the adapter changes of a parameter whose tensors are named so in the checkpoint. What it adds to the modules in kept
// is not merged.
func (w *Weights) patches(p flat.Param, names []string, kept map[string]bool) (out []patch) {
	if w.adapter == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, way := range w.ways(p.Name, names) {
		for i, name := range way {
			if seen[name] {
				continue
			}
			seen[name] = true
			if t, ok := w.adapter.saved[name]; ok {
				out = append(out, patch{i, len(way), name, nil, t})
			}
			if module, ok := strings.CutSuffix(name, ".weight"); ok && w.adapter.low[module] != nil && !kept[module] {
				out = append(out, patch{i, len(way), module, w.adapter.low[module], safetensors.Tensor{}})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b patch) int { // what replaces the base's comes before what is added
		return map[bool]int{true: 1}[a.low != nil] - map[bool]int{true: 1}[b.low != nil]
	})
	return out
}

// matrixModule returns the module of the adapter that a parameter is a matrix of; "" if the adapter has no such module.
func (w *Weights) matrixModule(p flat.Param) string {
	own := matrixOf(p)
	for _, way := range w.ways(own+".weight", []string{own + ".weight"}) {
		if module := strings.TrimSuffix(way[0], ".weight"); len(way) == 1 && w.adapter.low[module] != nil {
			return module
		}
	}
	return ""
}

// keptModules are the modules of the adapter whose matrices are among the parameters: the adapter is trained further. It is nil if none of the
// parameters is a matrix, and everything is merged.
func (w *Weights) keptModules(params []flat.Param) map[string]bool {
	if w.adapter == nil || !slices.ContainsFunc(params, IsMatrix) {
		return nil
	}
	kept := map[string]bool{}
	for _, p := range params {
		if IsMatrix(p) {
			kept[w.matrixModule(p)] = true
		}
	}
	return kept
}

// takeMatrix passes a parameter that is one of an adapter's two matrices to a target: the folder's adapter is trained further.
func (w *Weights) takeMatrix(to Target, p flat.Param) error {
	module := w.matrixModule(p)
	if module == "" {
		return fmt.Errorf("%s: %q has no adapter, but is among lora_targets: want the modules of this adapter, which is trained further", w.adapter.path, matrixOf(p))
	}
	w.adapter.used[module] = true
	t := w.adapter.low[module].b
	if strings.HasSuffix(p.Name, LoraA) {
		t = w.adapter.low[module].a
	}
	if !slices.Equal(t.Shape, p.Dims) {
		return fmt.Errorf("%s: tensor %q has the shape %v, want %v", w.adapter.path, t.Name, t.Shape, p.Dims)
	}
	values, err := to.Values(p)
	if err != nil {
		return err
	}
	return Read(values, []safetensors.Tensor{t})
}

// IsMatrix reports whether a parameter is one of an adapter's matrices.
func IsMatrix(p flat.Param) bool {
	return strings.HasSuffix(p.Name, LoraA) || strings.HasSuffix(p.Name, LoraB)
}

// matrixOf returns the module that a matrix belongs to.
func matrixOf(p flat.Param) string {
	return strings.TrimSuffix(strings.TrimSuffix(p.Name, LoraA), LoraB)
}

// checkFrozen fails if the adapter changes a frozen parameter, as a whole or some of its rows.
func (x *adapter) checkFrozen(parts []string, patches []patch) error {
	for _, name := range parts {
		if change, ok := x.rows[name]; ok {
			return x.lost(change)
		}
	}
	if len(patches) > 0 {
		return x.lost(patches[0])
	}
	return nil
}

// lost is the error for a frozen parameter that an adapter changes which is trained further: what is saved then has neither the parameter nor
// the change.
func (x *adapter) lost(change patch) error {
	why := "has an adapter, but is not among lora_targets"
	if change.low == nil {
		why = "replaces the base's (modules_to_save), but is frozen here"
	}
	return fmt.Errorf("%s: %q %s, so that training the adapter further would lose it: merge it first with rag-retrieval merge", x.path, change.key, why)
}

// takePatched passes a parameter with an adapter to a target. parts are the names of its tensors in the base.
func (w *Weights) takePatched(to Target, p flat.Param, parts []string, patches []patch) error {
	values, err := to.Values(p)
	if err != nil {
		return err
	}
	whole := 0 // parts that the adapter replaces
	for _, x := range patches {
		if x.low == nil {
			whole += len(values) / x.parts
		}
	}
	if whole < len(values) {
		tensors, err := w.partsOf(p, parts)
		if err == nil {
			err = Read(values, tensors)
		}
		if err != nil {
			return err
		}
	}
	for _, x := range patches {
		if p.Dims[0]%int64(x.parts) != 0 {
			return fmt.Errorf("%s: %q does not fit a parameter of shape %v", w.adapter.path, x.key, p.Dims)
		}
		rows := p.Dims[0] / int64(x.parts)
		share := values[len(values)/x.parts*x.part : len(values)/x.parts*(x.part+1)]
		want := slices.Clone(p.Dims)
		want[0] = rows
		if err := x.apply(share, want); err != nil {
			return fmt.Errorf("%s: %w", w.adapter.path, err)
		}
		w.adapter.used[x.key] = true
	}
	return nil
}

// apply changes the values of a tensor of shape dims.
func (x patch) apply(values []float32, dims []int64) error {
	if x.low != nil {
		if a, b := x.low.a.Shape, x.low.b.Shape; len(dims) != 2 || b[0] != dims[0] || a[1] != dims[1] {
			return fmt.Errorf("module %q has lora_A of shape %v and lora_B of shape %v, the base's weight has %v", x.key, a, b, dims)
		}
		return x.low.addTo(values, 0)
	}
	if !slices.Equal(x.saved.Shape, dims) {
		return fmt.Errorf("tensor %q has the shape %v, the base's config.json says %v", x.saved.Name, x.saved.Shape, dims)
	}
	return Read(values, []safetensors.Tensor{x.saved})
}

// addTo adds scale·b·a to rows of a weight, [rows, in], from row first on.
func (l *lowRank) addTo(weight []float32, first int64) error {
	rank, in := l.a.Shape[0], l.a.Shape[1]
	a, b := make([]float32, rank*in), make([]float32, rank*l.b.Shape[0])
	if err := errors.Join(Read(a, []safetensors.Tensor{l.a}), Read(b, []safetensors.Tensor{l.b})); err != nil {
		return err
	}
	lowrank.Add(weight, b[first*rank:first*rank+int64(len(weight))/in*rank], a, int(rank), l.scale)
	return nil
}

// patchRow merges what the adapter adds to row i of a tensor into that row, [1, columns].
func (x *adapter) patchRow(row *safetensors.Tensor, tensor string, i int64) error {
	module := strings.TrimSuffix(tensor, ".weight")
	if t, ok := x.saved[tensor]; ok {
		x.used[tensor], x.rows[row.Name] = true, patch{key: tensor, saved: t}
	}
	l := x.low[module]
	if l == nil {
		return nil
	}
	x.used[module], x.rows[row.Name] = true, patch{key: module, low: l}
	if l.b.Shape[0] <= i || l.a.Shape[1] != row.Shape[1] {
		return fmt.Errorf("module %q has lora_A of shape %v and lora_B of shape %v, which is not that of the base's weight", module, l.a.Shape, l.b.Shape)
	}
	values := make([]float32, row.Shape[1])
	if err := errors.Join(Read(values, []safetensors.Tensor{*row}), l.addTo(values, i)); err != nil {
		return err
	}
	*row = safetensors.FromFloat32(row.Name, values, row.Shape...)
	return nil
}

// unread are the first names of modules outside the encoder that a kind of model may not read: heads of others, and BERT's pooler.
var unread = []string{"classifier", "dense", "head", "pooler", "pre_classifier", "score"}

// checkUsed returns an error that names a module of the adapter that belongs to no parameter: then the adapter is not for this base.
func (x *adapter) checkUsed() error {
	for _, keys := range [][]string{slices.Sorted(maps.Keys(x.low)), slices.Sorted(maps.Keys(x.saved))} {
		for _, key := range keys {
			first, rest, _ := strings.Cut(key, ".")
			second, _, _ := strings.Cut(rest, ".")
			if x.used[key] || slices.Contains(unread, first) || slices.Contains(unread, second) {
				continue
			}
			return fmt.Errorf("%s: %q is not a part of the base model %s: the adapter was trained for another model, or with modules that are not read here", x.path, key, x.config.Base)
		}
	}
	return nil
}
