package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// externalLimit is the size of weights from which Save puts them into a second file: protobuf ends at 2 GiB.
const externalLimit = int64(1900) << 20

// Bytes is the graph as an ONNX file. The same graph gives the same bytes.
func (g *Graph) Bytes() ([]byte, error) {
	m, err := g.Proto()
	if err != nil {
		return nil, err
	}
	return marshal(m)
}

func marshal(m *onnxpb.ModelProto) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// Save writes the graph as an ONNX file. Weights of more than 1.9 GiB go into a second file beside it, called
// path + ".data", as ONNX's external data.
func (g *Graph) Save(path string) error { return g.save(path, externalLimit) }

func (g *Graph) save(path string, limit int64) error {
	m, err := g.Proto()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, t := range m.Graph.Initializer {
		total += int64(len(t.RawData))
	}
	if total > limit {
		if err := saveExternal(m, path+".data"); err != nil {
			return err
		}
	}
	b, err := marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// Detached is the graph as an ONNX file without its large weights, so that there is no size that a protobuf cannot hold.
// Weights that lie in files are named there by paths from Root; the others are given to a session beside the file, see
// runtime.NewSessionWithWeights.
func (g *Graph) Detached() (model []byte, weights []*Value, err error) {
	m, err := g.Proto()
	if err != nil {
		return nil, nil, err
	}
	consts := g.usedConsts() // in the order of the file's initializers
	for i, t := range m.Graph.Initializer {
		if len(t.RawData) >= minExternalSize {
			moveOutside(t, "memory", 0, int64(len(t.RawData)))
			weights = append(weights, consts[i])
		}
	}
	model, err = marshal(m)
	return model, weights, err
}

// Root is the folder that the paths of weights in files count from: ONNX allows no absolute ones.
const Root = "/"

// location is the file's path as ONNX writes it.
func (f *FileRange) location() string { return strings.TrimPrefix(filepath.ToSlash(f.Path), Root) }

// size is the number of bytes of a tensor.
func (t *Tensor) size() int64 { return Elements(t.Dims) * int64(t.DType.Size()) }

// minExternalSize is the size in bytes from which a weight may lie outside of the file: shapes and scales stay inside,
// where ONNX Runtime's optimizers read them.
const minExternalSize = 1024

// externalAlignment is what ONNX recommends for memory-mapped external data.
const externalAlignment = 4096

// moveOutside makes an initializer external data: length bytes at an offset of the file at location.
func moveOutside(t *onnxpb.TensorProto, location string, offset, length int64) {
	t.ExternalData = []*onnxpb.StringStringEntryProto{
		{Key: "location", Value: location},
		{Key: "offset", Value: fmt.Sprint(offset)},
		{Key: "length", Value: fmt.Sprint(length)},
	}
	t.DataLocation, t.RawData = onnxpb.TensorProto_EXTERNAL, nil
}

// saveExternal moves the larger initializers of m into the file at path.
func saveExternal(m *onnxpb.ModelProto, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	offset := int64(0)
	for _, t := range m.Graph.Initializer {
		if len(t.RawData) < minExternalSize {
			continue
		}
		offset = (offset + externalAlignment - 1) / externalAlignment * externalAlignment
		if _, err := f.WriteAt(t.RawData, offset); err != nil {
			return err
		}
		length := int64(len(t.RawData))
		moveOutside(t, filepath.Base(path), offset, length)
		offset += length
	}
	return nil
}

// Load reads an ONNX file made of the operators that this package knows.
func Load(path string) (*Graph, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: not an ONNX file: %w", path, err)
	}
	g, err := FromProto(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}
