package encoder

import (
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// ExportOpset is the version of ai.onnx that exported models need: LayerNormalization's first.
const ExportOpset = 17

// paddedLayout is a padded batch [batch, sequence] in standard operators only, as other runtimes expect it.
type paddedLayout struct {
	g    *onnx.Graph
	c    Config
	ids  *onnx.Value
	typ  *onnx.Value
	mask *onnx.Value
	bias *onnx.Value
}

// NewPaddedLayout adds the inputs input_ids, attention_mask and, where the model has more than one token type,
// token_type_ids, and gives the mask as a float32 [batch, sequence] beside the layout. Padding stands at the end.
func NewPaddedLayout(g *onnx.Graph, c Config) (Layout, *onnx.Value) {
	batch, seq := onnx.N("batch"), onnx.N("sequence")
	p := &paddedLayout{g: g, c: c}
	p.ids = g.Input("input_ids", onnx.Int64, batch, seq)
	p.mask = g.Cast(g.Input("attention_mask", onnx.Int64, batch, seq), onnx.Float32)
	if c.HasTypes() {
		p.typ = g.Input("token_type_ids", onnx.Int64, batch, seq)
	}
	one := g.Scalar(p.mask, 1)
	p.bias = g.Unsqueeze(g.Mul(g.Sub(one, p.mask), g.Scalar(p.mask, PaddingBias)), 1, 2)
	return p, p.mask
}

// PaddingBias is added to the attention scores of padding: as good as minus infinity, without its NaN.
const PaddingBias = -1e9

func (p *paddedLayout) Words(table *onnx.Value) *onnx.Value { return p.g.Gather(table, p.ids, 0) }

func (p *paddedLayout) Positions(table *onnx.Value) *onnx.Value {
	length := p.g.Squeeze(p.g.Gather(p.g.Shape(p.ids), p.g.IntVector(1), 0), 0)
	at := p.g.Range(p.g.IntScalar(0), length)
	if first := p.c.firstPosition(); first > 0 {
		at = p.g.Add(at, p.g.IntScalar(first))
	}
	return p.g.Gather(table, at, 0)
}

func (p *paddedLayout) Types(table *onnx.Value) *onnx.Value {
	if p.typ == nil {
		return p.g.Gather(table, p.g.IntVector(0), 0)
	}
	return p.g.Gather(table, p.typ, 0)
}

func (p *paddedLayout) Heads(qkv *onnx.Value) (q, k, v []*onnx.Value) {
	parts := p.split(qkv, 3, p.c.NumAttentionHeads)
	return parts[:1], parts[1:2], parts[2:]
}

func (p *paddedLayout) QueryHeads(q *onnx.Value) []*onnx.Value {
	return p.split(q, 1, p.c.NumAttentionHeads)
}

func (p *paddedLayout) KeyValueHeads(kv *onnx.Value) (k, v []*onnx.Value) {
	parts := p.split(kv, 2, p.c.keyValueHeads())
	return parts[:1], parts[1:]
}

// split gives the parts of [tokens, parts·heads·size], each [batch, heads, sequence, size].
func (p *paddedLayout) split(x *onnx.Value, parts, heads int64) (out []*onnx.Value) {
	g := p.g
	shape := g.Concat(0, g.Shape(p.ids), g.IntVector(parts, heads, p.c.HeadSize()))
	split := g.Transpose(g.Reshape(x, shape), 2, 0, 3, 1, 4) // [parts, batch, heads, sequence, size]
	for i := range parts {
		out = append(out, g.Gather(split, g.IntScalar(i), 0))
	}
	return out
}

func (p *paddedLayout) RowPositions(int) *onnx.Value {
	return p.g.Range(p.g.IntScalar(0), p.g.Squeeze(p.g.Gather(p.g.Shape(p.ids), p.g.IntVector(1), 0), 0))
}

func (p *paddedLayout) Bias(int) *onnx.Value { return p.bias }

func (p *paddedLayout) Merge(groups []*onnx.Value) *onnx.Value {
	heads, size, x := p.c.NumAttentionHeads, p.c.HeadSize(), groups[0]
	if p.c.shared() > 1 { // laid end to end along the length
		x = p.g.Reshape(x, p.g.Concat(0, p.g.Gather(p.g.Shape(p.ids), p.g.IntVector(0), 0), p.g.IntVector(heads, -1, size)))
	}
	return p.g.ReshapeTo(p.g.Transpose(x, 0, 2, 1, 3), -1, heads*size)
}

func (p *paddedLayout) Scores(q, k *onnx.Value, alpha float64) *onnx.Value {
	return p.g.MatMul(p.g.Mul(q, p.g.Scalar(q, alpha)), p.g.Transpose(k, 0, 1, 3, 2))
}

func (p *paddedLayout) Values(probs, v *onnx.Value) *onnx.Value { return p.g.MatMul(probs, v) }

// Gelu spells x · ½ (1 + erf(x/√2)) out: the operator itself is newer than this opset.
func (p *paddedLayout) Gelu(x *onnx.Value) *onnx.Value {
	g := p.g
	phi := g.Add(g.Erf(g.Mul(x, g.Scalar(x, math.Sqrt2/2))), g.Scalar(x, 1))
	return g.Mul(g.Mul(x, phi), g.Scalar(x, 0.5))
}

// PaddedHidden gives [tokens, hidden] its batch shape [batch, sequence, hidden] back.
func PaddedHidden(g *onnx.Graph, l Layout, c Config, x *onnx.Value) *onnx.Value {
	return PaddedRows(g, l, x, c.HiddenSize)
}

// PaddedRows is PaddedHidden for values of another width.
func PaddedRows(g *onnx.Graph, l Layout, x *onnx.Value, width int64) *onnx.Value {
	p := l.(*paddedLayout)
	return g.Reshape(x, g.Concat(0, g.Shape(p.ids), g.IntVector(width)))
}
