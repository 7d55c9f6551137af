package onnx

import (
	"fmt"
	"sort"

	"rag-retrieval-go/ortrain/onnx/onnxpb"
)

const irVersion = 10

// Proto converts the graph to ONNX's file format, without the constants that no node reads. It fails where the graph is not
// valid.
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
	for _, v := range g.usedConsts() {
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
	for _, k := range sortedKeys(g.Meta) {
		m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: k, Value: g.Meta[k]})
	}
	return m, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

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

func tensorProto(name string, t *Tensor) *onnxpb.TensorProto {
	if t.File != nil {
		p := &onnxpb.TensorProto{Name: name, Dims: t.Dims, DataType: int32(t.DType)}
		moveOutside(p, t.File.location(), t.File.Offset, t.size())
		return p
	}
	return &onnxpb.TensorProto{Name: name, Dims: t.Dims, DataType: int32(t.DType), RawData: t.Raw}
}

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
	for _, k := range sortedKeys(n.Attrs) {
		p.Attribute = append(p.Attribute, attributeProto(k, n.Attrs[k]))
	}
	return p
}

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

// FromProto reads a graph made of the operators that this package knows, and infers its types and shapes anew.
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
			return nil, fmt.Errorf("graph %s: output %q is computed nowhere", g.Name, vi.Name)
		}
		g.Outputs = append(g.Outputs, v)
	}
	return g, g.Validate()
}

func inputFromProto(g *Graph, vi *onnxpb.ValueInfoProto) *Value {
	t := vi.GetType().GetTensorType()
	shape := Shape{}
	for i, d := range t.GetShape().GetDim() {
		if name := d.GetDimParam(); name != "" {
			shape = append(shape, N(name))
		} else if _, ok := d.GetValue().(*onnxpb.TensorShapeProto_Dimension_DimValue); ok {
			shape = append(shape, D(d.GetDimValue()))
		} else {
			shape = append(shape, N(fmt.Sprintf("%s_dim%d", vi.Name, i)))
		}
	}
	return g.Input(vi.Name, DType(t.GetElemType()), shape...)
}

func nodeFromProto(g *Graph, p *onnxpb.NodeProto, values map[string]*Value) error {
	inputs := make([]*Value, len(p.Input))
	for i, name := range p.Input {
		if name == "" {
			continue
		}
		if inputs[i] = values[name]; inputs[i] == nil {
			return fmt.Errorf("node %s: input %q is not computed before it", p.Name, name)
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
		return tensorFromProto(a.T)
	}
	return nil, fmt.Errorf("kind %v is not read here", a.Type)
}

func tensorFromProto(t *onnxpb.TensorProto) (*Tensor, error) {
	if t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL {
		return nil, fmt.Errorf("external data is not read here")
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
		return nil, fmt.Errorf("%d bytes for %d elements of %v", len(out.Raw), n, out.DType)
	}
	return out, nil
}
