package onnx

import (
	"maps"
	"slices"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// irVersion is the version of ONNX's file format.
const irVersion = 10

// Proto returns the graph as an ONNX ModelProto, without the constants that no node reads. It returns an error if the graph
// is not valid, see Validate.
func (g *Graph) Proto() (*onnxpb.ModelProto, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	gp := &onnxpb.GraphProto{Name: g.Name}
	for _, v := range g.Inputs {
		gp.Input = append(gp.Input, valueInfo(v))
	}
	for _, v := range g.Outputs {
		gp.Output = append(gp.Output, valueInfo(v))
	}
	for _, v := range g.usedInitializers() {
		gp.Initializer = append(gp.Initializer, tensorProto(v.Name, v.Const))
	}
	outputs := map[*Value]bool{}
	for _, v := range g.Outputs {
		outputs[v] = true
	}
	domains := map[string]bool{}
	for _, n := range g.Nodes {
		gp.Node = append(gp.Node, nodeProto(n))
		domains[n.Domain] = true
		for _, v := range n.Outputs {
			if !outputs[v] {
				gp.ValueInfo = append(gp.ValueInfo, valueInfo(v))
			}
		}
	}
	m := &onnxpb.ModelProto{
		IrVersion: irVersion, ProducerName: "rag-retrieval-go", Graph: gp,
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: g.Opset}},
	}
	if domains[Microsoft] {
		m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: Microsoft, Version: 1})
	}
	meta, err := g.kernelMeta()
	if err != nil {
		return nil, err
	}
	maps.Copy(meta, g.Meta)
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: k, Value: meta[k]})
	}
	return m, nil
}

// valueInfo returns the name, type and shape of a value.
func valueInfo(v *Value) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range v.Shape {
		dim := &onnxpb.TensorShapeProto_Dimension{}
		if d.Fixed() {
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.Size}
		} else {
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Name}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnxpb.ValueInfoProto{Name: v.Name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: int32(v.DType), Shape: shape},
	}}}
}

// tensorProto returns a constant as an initializer, which refers to a file if its elements are in one.
func tensorProto(name string, t *Tensor) *onnxpb.TensorProto {
	if t.File != nil {
		p := &onnxpb.TensorProto{Name: name, Dims: t.Dims, DataType: int32(t.DType)}
		makeExternal(p, t.File.location(), t.File.Offset, t.size())
		return p
	}
	return &onnxpb.TensorProto{Name: name, Dims: t.Dims, DataType: int32(t.DType), RawData: t.Raw}
}

// nodeProto returns a node. The name of a missing input is empty; missing inputs at the end are left out.
func nodeProto(n *Node) *onnxpb.NodeProto {
	p := &onnxpb.NodeProto{Name: n.Name, OpType: n.Op, Domain: n.Domain}
	for _, v := range n.Inputs {
		if v == nil {
			p.Input = append(p.Input, "")
		} else {
			p.Input = append(p.Input, v.Name)
		}
	}
	for len(p.Input) > 0 && p.Input[len(p.Input)-1] == "" {
		p.Input = p.Input[:len(p.Input)-1]
	}
	for _, v := range n.Outputs {
		p.Output = append(p.Output, v.Name)
	}
	for _, k := range slices.Sorted(maps.Keys(n.Attrs)) {
		p.Attribute = append(p.Attribute, attributeProto(k, n.Attrs[k]))
	}
	return p
}

// attributeProto returns an attribute of one of the types that Attrs lists.
func attributeProto(name string, value any) *onnxpb.AttributeProto {
	a := &onnxpb.AttributeProto{Name: name}
	switch v := value.(type) {
	case int64:
		a.Type, a.I = onnxpb.AttributeProto_INT, &v
	case float32:
		a.Type, a.F = onnxpb.AttributeProto_FLOAT, &v
	case string:
		a.Type, a.S = onnxpb.AttributeProto_STRING, []byte(v)
	case []int64:
		a.Type, a.Ints = onnxpb.AttributeProto_INTS, v
	case []float32:
		a.Type, a.Floats = onnxpb.AttributeProto_FLOATS, v
	case *Tensor:
		a.Type, a.T = onnxpb.AttributeProto_TENSOR, tensorProto("", v)
	}
	return a
}
