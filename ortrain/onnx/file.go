package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// externalLimit is the size in bytes above which Save writes the weights to a second file. A protobuf message, such as an
// ONNX file, cannot be larger than 2 GiB.
const externalLimit = int64(1900) << 20

// Bytes returns the graph as an ONNX file. Equal graphs give equal bytes.
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

// Save writes the graph as an ONNX file. If the weights are larger than 1,900 MiB, they go to a second file, path + ".data",
// as ONNX's external data.
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

// BytesWithoutWeights returns the graph as an ONNX file in which all weights of 1 KiB or more are external data. So the file
// stays below protobuf's limit of 2 GiB for a model of any size. A weight that is in a file (Tensor.File) refers to
// it by its path from ExternalRoot. The other large weights are returned; the caller passes them to the session together
// with the model, see runtime.NewModel.
func (g *Graph) BytesWithoutWeights() (model []byte, weights []*Value, err error) {
	m, err := g.Proto()
	if err != nil {
		return nil, nil, err
	}
	used := g.usedInitializers() // in the order of the file's initializers
	for i, t := range m.Graph.Initializer {
		if len(t.RawData) >= minExternalSize {
			makeExternal(t, InMemory, 0, int64(len(t.RawData)))
			weights = append(weights, used[i])
		}
	}
	model, err = marshal(m)
	return model, weights, err
}

// ExternalRoot is the folder that the paths of external weights are relative to. ONNX does not allow absolute paths.
const ExternalRoot = "/"

// location returns the file's path relative to ExternalRoot.
func (f *FileRange) location() string {
	return strings.TrimPrefix(filepath.ToSlash(f.Path), ExternalRoot)
}

// InMemory is the location of external data that are in no file: a session gets them together with the graph.
const InMemory = "memory"

// minExternalSize is the smallest size in bytes of a weight that may be external data. Smaller constants, such as shapes and
// scales, stay in the file, because ONNX Runtime's optimizers read them there.
const minExternalSize = 1024

// externalAlignment is the alignment in bytes that ONNX recommends for memory-mapped external data.
const externalAlignment = 4096

// makeExternal makes an initializer refer to external data: length bytes at an offset of the file at location.
func makeExternal(t *onnxpb.TensorProto, location string, offset, length int64) {
	t.ExternalData = []*onnxpb.StringStringEntryProto{
		{Key: "location", Value: location},
		{Key: "offset", Value: fmt.Sprint(offset)},
		{Key: "length", Value: fmt.Sprint(length)},
	}
	t.DataLocation, t.RawData = onnxpb.TensorProto_EXTERNAL, nil
}

// saveExternal writes the initializers of minExternalSize or more to the file at path and makes them refer to it.
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
		makeExternal(t, filepath.Base(path), offset, length)
		offset += length
	}
	return nil
}

// Load reads an ONNX file without external data, see FromProto.
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
