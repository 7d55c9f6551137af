package onnx

import (
	"fmt"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

// FromProto converts an ONNX ModelProto to a graph and infers its types and shapes again. It returns an error if the graph
// has an operator, an attribute type or a storage that this package does not know, or if it is not valid.
func FromProto(m *onnxpb.ModelProto) (*Graph, error) {
	p := m.GetGraph()
	if p == nil {
		return nil, fmt.Errorf("the model has no graph")
	}
	g := NewGraph(p.Name)
	for _, o := range m.OpsetImport {
		if o.Domain == "" {
			g.Opset = o.Version
		}
	}
	for _, kv := range m.MetadataProps {
		if kv.Key == KernelsKey || kv.Key == ProductsKey {
			continue // they name values of this file, and the graph may be changed
		}
		g.Meta[kv.Key] = kv.Value
	}
	values := map[string]*Value{}
	for _, t := range p.Initializer {
		c, err := tensorFromProto(t)
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", t.Name, err)
		}
		values[t.Name] = g.Weight(t.Name, c)
	}
	for _, vi := range p.Input {
		if values[vi.Name] == nil {
			values[vi.Name] = inputFromProto(g, vi)
		}
	}
	for _, np := range p.Node {
		if err := nodeFromProto(g, np, values); err != nil {
			return nil, err
		}
	}
	for _, vi := range p.Output {
		v := values[vi.Name]
		if v == nil {
			return nil, fmt.Errorf("graph %s: no node computes the output %q", g.Name, vi.Name)
		}
		g.Outputs = append(g.Outputs, v)
	}
	return g, g.Validate()
}

// inputFromProto adds a graph input. A dimension that has neither a size nor a name gets a name made of the input's.
func inputFromProto(g *Graph, vi *onnxpb.ValueInfoProto) *Value {
	t := vi.GetType().GetTensorType()
	shape := Shape{}
	for i, d := range t.GetShape().GetDim() {
		if name := d.GetDimParam(); name != "" {
			shape = append(shape, NamedDim(name))
		} else if _, ok := d.GetValue().(*onnxpb.TensorShapeProto_Dimension_DimValue); ok {
			shape = append(shape, FixedDim(d.GetDimValue()))
		} else {
			shape = append(shape, NamedDim(fmt.Sprintf("%s_dim%d", vi.Name, i)))
		}
	}
	return g.Input(vi.Name, DType(t.GetElemType()), shape...)
}

// nodeFromProto appends a node and adds its outputs to values, which has the values of the graph so far by name.
func nodeFromProto(g *Graph, p *onnxpb.NodeProto, values map[string]*Value) error {
	inputs := make([]*Value, len(p.Input))
	for i, name := range p.Input {
		if name == "" {
			continue
		}
		if inputs[i] = values[name]; inputs[i] == nil {
			return fmt.Errorf("node %s: no node before it computes its input %q", p.Name, name)
		}
	}
	attrs := Attrs{}
	for _, a := range p.Attribute {
		v, err := attributeFromProto(a)
		if err != nil {
			return fmt.Errorf("node %s: attribute %q: %w", p.Name, a.Name, err)
		}
		attrs[a.Name] = v
	}
	outs := g.Op(p.Domain, p.OpType, inputs, attrs, len(p.Output))
	if err := g.Err(); err != nil {
		return err
	}
	node := outs[0].Producer
	if p.Name != "" {
		node.Name = p.Name
	}
	for i, v := range outs {
		v.Name = p.Output[i]
		values[v.Name] = v
	}
	return nil
}

// attributeFromProto returns an attribute's value in one of the types that Attrs lists.
func attributeFromProto(a *onnxpb.AttributeProto) (any, error) {
	switch a.Type {
	case onnxpb.AttributeProto_INT:
		return a.GetI(), nil
	case onnxpb.AttributeProto_FLOAT:
		return a.GetF(), nil
	case onnxpb.AttributeProto_STRING:
		return string(a.S), nil
	case onnxpb.AttributeProto_INTS:
		return a.Ints, nil
	case onnxpb.AttributeProto_FLOATS:
		return a.Floats, nil
	case onnxpb.AttributeProto_TENSOR:
		if a.T == nil {
			return nil, fmt.Errorf("the tensor is missing")
		}
		return tensorFromProto(a.T)
	}
	return nil, fmt.Errorf("type %v is not supported", a.Type)
}

// tensorFromProto returns a constant whose elements are in the model itself.
func tensorFromProto(t *onnxpb.TensorProto) (*Tensor, error) {
	if t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
		return nil, fmt.Errorf("external data is not supported")
	}
	out := &Tensor{DType: DType(t.DataType), Dims: t.Dims, Raw: t.RawData}
	n := Elements(t.Dims)
	switch {
	case len(t.FloatData) > 0:
		out.Raw = Floats(t.FloatData).Raw
	case len(t.Int64Data) > 0:
		out.Raw = Ints(t.Int64Data).Raw
	case len(t.DoubleData) > 0:
		out.Raw = Doubles(t.DoubleData).Raw
	}
	size := int64(out.DType.Size())
	if size == 0 || int64(len(out.Raw)) != n*size {
		return nil, fmt.Errorf("found %d bytes, want %d elements of %v", len(out.Raw), n, out.DType)
	}
	return out, nil
}
