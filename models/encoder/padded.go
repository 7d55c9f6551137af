package encoder

import "rag-retrieval-go/ortrain/onnx"

// ExportOpset is the version of ai.onnx that exported models need: LayerNormalization's first.
const ExportOpset = 17

// Padded is a padded batch [batch, sequence] in standard operators, as other runtimes expect it: tokens are its places row
// by row, padding included, and attention has one group, the batch.
type Padded struct {
	g    *onnx.Graph
	c    Config
	ids  *onnx.Value
	typ  *onnx.Value // nil where the model has one type
	bias *onnx.Value
	// Mask is float32 [batch, sequence]: 1 at tokens, 0 at padding.
	Mask *onnx.Value
}

// NewPadded makes g a graph of standard operators and adds the inputs input_ids, attention_mask and, where the model has more
// than one token type, token_type_ids, each int64 [batch, sequence]. Padding stands at the end.
func NewPadded(g *onnx.Graph, c Config) *Padded {
	g.Opset, g.StandardOpsOnly = ExportOpset, true
	batch, seq := onnx.NamedDim("batch"), onnx.NamedDim("sequence")
	p := &Padded{g: g, c: c}
	p.ids = g.Input("input_ids", onnx.Int64, batch, seq)
	p.Mask = g.Cast(g.Input("attention_mask", onnx.Int64, batch, seq), onnx.Float32)
	if c.HasTypes() {
		p.typ = g.Input("token_type_ids", onnx.Int64, batch, seq)
	}
	one := g.Scalar(p.Mask, 1)
	p.bias = g.Unsqueeze(g.Mul(g.Sub(one, p.Mask), g.Scalar(p.Mask, PaddingBias)), 1, 2)
	return p
}

func (p *Padded) embed(by tokenIndex, table *onnx.Value) *onnx.Value {
	switch {
	case by == byPosition:
		at := p.columns()
		if first := p.c.firstPosition(); first > 0 {
			at = p.g.Add(at, p.g.IntScalar(first))
		}
		return p.g.Gather(table, at, 0)
	case by == byType && p.typ == nil:
		return p.g.Gather(table, p.g.IntVector(0), 0)
	case by == byType:
		return p.g.Gather(table, p.typ, 0)
	}
	return p.g.Gather(table, p.ids, 0)
}

// columns numbers the places of a row: [sequence].
func (p *Padded) columns() *onnx.Value {
	length := p.g.Squeeze(p.g.Gather(p.g.Shape(p.ids), p.g.IntVector(1), 0), 0)
	return p.g.Range(p.g.IntScalar(0), length)
}

func (p *Padded) places() *onnx.Value {
	return p.g.ReshapeTo(p.g.Expand(p.columns(), p.g.Shape(p.ids)), -1)
}

// attention compares all tokens of a text, and leaves it to the mask to hide those outside of a window: the full square.
func (p *Padded) attention(int64) attentionGroups { return p }

func (p *Padded) groups() []group {
	x := group{padding: p.bias}
	if p.c.masksByPlace() || p.c.window() != NoWindow {
		x.queryPlaces = p.g.Unsqueeze(p.columns(), 0)
		x.keyPlaces = x.queryPlaces
	}
	return []group{x}
}

func (p *Padded) all(qkv *onnx.Value) (q, k, v []*onnx.Value) {
	g, parts := p.g, make([]*onnx.Value, 3)
	shape := g.Concat(0, g.Shape(p.ids), g.IntVector(3, p.c.NumAttentionHeads, p.c.HeadSize()))
	split := g.Transpose(g.Reshape(qkv, shape), 2, 0, 3, 1, 4) // [3, batch, heads, sequence, size]
	for i := range parts {
		parts[i] = g.Gather(split, g.IntScalar(int64(i)), 0)
	}
	return parts[:1], parts[1:2], parts[2:]
}

func (p *Padded) queries(x *onnx.Value) []*onnx.Value { return p.heads(x, p.c.NumAttentionHeads) }

func (p *Padded) keys(x *onnx.Value) []*onnx.Value { return p.heads(x, p.c.keyValueHeads()) }

// heads gives [tokens, heads·size] as [batch, heads, sequence, size].
func (p *Padded) heads(x *onnx.Value, heads int64) []*onnx.Value {
	shape := p.g.Concat(0, p.g.Shape(p.ids), p.g.IntVector(heads, p.c.HeadSize()))
	return []*onnx.Value{p.g.Transpose(p.g.Reshape(x, shape), 0, 2, 1, 3)}
}

func (p *Padded) merge(groups []*onnx.Value) *onnx.Value {
	heads, size, x := p.c.NumAttentionHeads, p.c.HeadSize(), groups[0]
	if p.c.shared() > 1 { // the heads that share keys lie end to end along the length, see attend
		x = p.g.Reshape(x, p.g.Concat(0, p.g.Gather(p.g.Shape(p.ids), p.g.IntVector(0), 0), p.g.IntVector(heads, -1, size)))
	}
	return p.g.ReshapeTo(p.g.Transpose(x, 0, 2, 1, 3), -1, heads*size)
}

func (p *Padded) fused(_, out *onnx.Value) *onnx.Value { return out }

// Unpack gives [tokens, width] its batch shape [batch, sequence, width] back.
func (p *Padded) Unpack(x *onnx.Value, width int64) *onnx.Value {
	return p.g.Reshape(x, p.g.Concat(0, p.g.Shape(p.ids), p.g.IntVector(width)))
}

// IsNot is float32 [batch, sequence]: 1 where the token's id is another.
func (p *Padded) IsNot(id int64) *onnx.Value {
	is := p.g.Cast(p.g.Equal(p.ids, p.g.IntScalar(id)), onnx.Float32)
	return p.g.Sub(p.g.Scalar(is, 1), is)
}
