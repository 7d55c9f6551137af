package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// The graph inputs of a packed batch. Those of attention group k carry its number: "group0.tokens".
const (
	vocabulary   = "vocabulary"        // the distinct token ids of the batch
	places       = "vocabulary_places" // for each id of the tokenizer, its place there, or how many there are
	inputIDs     = "input_ids"         // of each token, its place in the vocabulary
	tokenTypeIDs = "token_type_ids"
	positionIDs  = "position_ids"
	slotStart    = "attention_slot"
	slotStride   = "attention_stride"
	tokenCount   = "token_count" // of the batch, [1]: also the number that padding has
	slotCount    = "slot_count"  // of the groups' (head, position) pairs, [1]
	// The same of key-value heads, where they are fewer.
	keyValueSlotStart = "attention_slot_key_value"
	keyValueSlotCount = "slot_count_key_value"

	// Of fused attention, see onnx.Graph.PackedMultiHeadAttention.
	paddedOffsets = "attention_offsets"
	rowStarts     = "attention_starts"
)

func groupTokens(k int) string { return fmt.Sprintf("group%d.tokens", k) }
func groupBias(k int) string   { return fmt.Sprintf("group%d.bias", k) }
func groupRows(k int) string   { return fmt.Sprintf("rows_%d", k) }
func groupLength(k int) string { return fmt.Sprintf("length_%d", k) }

// groupPositions numbers a group's columns from 0, [length]: where tokens stand in their rows.
func groupPositions(k int) string { return fmt.Sprintf("group%d.positions", k) }

// TokensDim is the name of the dimension that counts a packed batch's tokens.
const TokensDim = "tokens"

// packedLayout has the real tokens of all rows end to end; only attention pads, in groups of rows of like length.
// Queries, keys and values are gathered straight into [rows, heads, length, head size], one head's slice at a time,
// so that no transpose is ever copied.
type packedLayout struct {
	g         *onnx.Graph
	c         Config
	vocab     *onnx.Value // distinct token ids
	words     *onnx.Value
	types     *onnx.Value
	positions *onnx.Value
	bias      []*onnx.Value
	places    []*onnx.Value // of columns, per group; nil where nothing reads them
	qkv       headIndex     // of queries, keys and values in one, [tokens·3·heads]
	query     headIndex     // of queries alone
	keyValue  headIndex     // of keys with values, [tokens·2·key-value heads]
	merge     *onnx.Value   // index of [tokens·heads] into the groups laid end to end
	unmerge   []*onnx.Value // its inverse, per group
	offsets   *onnx.Value   // of fused attention; nil without
	starts    *onnx.Value
}

// headIndex gathers the heads of tokens into the groups: parts indexes rows of [tokens·heads of all parts, size], for every
// group of the first part, then of the second and the third; inverse is its inverse.
type headIndex struct {
	parts   []*onnx.Value
	inverse *onnx.Value
}

// NewPackedLayout adds the inputs of a packed batch with the given number of attention groups, some of which may be
// empty when the graph runs.
func NewPackedLayout(g *onnx.Graph, c Config, groups int) Layout {
	tokens, heads := onnx.N(TokensDim), c.NumAttentionHeads
	p := &packedLayout{g: g, c: c,
		vocab:     g.Input(vocabulary, onnx.Int64, onnx.N(vocabulary)),
		words:     g.Input(inputIDs, onnx.Int64, tokens),
		types:     g.Input(tokenTypeIDs, onnx.Int64, tokens),
		positions: g.Input(positionIDs, onnx.Int64, tokens),
	}
	slot, stride := g.Input(slotStart, onnx.Int64, tokens), g.Input(slotStride, onnx.Int64, tokens)
	defer g.Scope("layout")()
	// Sizes that indices are made of are inputs like these: read off a shape, they would be copied to a GPU in each run.
	count, total := g.Input(tokenCount, onnx.Int64, onnx.D(1)), g.Input(slotCount, onnx.Int64, onnx.D(1))
	head := g.Const(onnx.Ints(sequence(heads), heads))
	// Where token t's head h stands in the groups: slot[t] + h·stride[t].
	slots := g.Add(g.Unsqueeze(slot, 1), g.Mul(g.Unsqueeze(stride, 1), head))
	p.merge = g.ReshapeTo(slots, -1)
	column := g.Const(onnx.Ints(sequence(heads), heads, 1))
	at := make([]*onnx.Value, groups) // the groups' tokens, [rows, 1, length]; 0 at padding
	fused := c.layer(0).queryKeyValue != ""
	width := int64(3)
	if !fused {
		width = 1
	}
	parts := make([][]*onnx.Value, width)
	for k := 0; k < groups; k++ {
		rows, length := onnx.N(groupRows(k)), onnx.N(groupLength(k))
		tokens := g.Input(groupTokens(k), onnx.Int64, rows, length) // padding reads token number count
		p.bias = append(p.bias, g.Unsqueeze(g.Input(groupBias(k), onnx.Float32, rows, length), 1, 2))
		token := g.Unsqueeze(tokens, 1) // [rows, 1, length]
		padding := g.Equal(token, count)
		at[k] = g.Where(padding, g.IntVector(0), token)
		source := g.Mul(at[k], g.IntVector(width*heads))
		for j := range parts {
			parts[j] = append(parts[j], g.Add(source, g.Add(column, g.IntVector(int64(j)*heads))))
		}
		back := g.Where(padding, g.Mul(count, g.IntVector(heads)), g.Add(g.Mul(token, g.IntVector(heads)), column))
		p.unmerge = append(p.unmerge, g.ReshapeTo(back, -1))
		if c.needsPositions() {
			p.places = append(p.places, g.Input(groupPositions(k), onnx.Int64, length))
		}
	}
	index := headIndex{}
	for j := range parts {
		index.parts = append(index.parts, parts[j]...)
	}
	if fused {
		third := g.Mul(g.Const(onnx.Ints(sequence(3), 3, 1)), total) // queries, keys, values lie total apart
		index.inverse = g.ReshapeTo(g.Add(g.Unsqueeze(slots, 1), third), -1)
		p.qkv = index
	} else {
		index.inverse = p.merge
		p.query, p.keyValue = index, keyValueIndex(g, c, at, stride)
	}
	if c.FusedAttention {
		int32s := func(name string, dims ...onnx.Dim) *onnx.Value {
			return g.Cast(g.Input(name, onnx.Int64, dims...), onnx.Int32)
		}
		p.offsets = int32s(paddedOffsets, onnx.N("padded_rows"), onnx.N("padded_length"))
		p.starts = int32s(rowStarts, onnx.N("row_starts"))
	}
	return p
}

// keyValueIndex gathers keys with values: at has the groups' tokens.
func keyValueIndex(g *onnx.Graph, c Config, at []*onnx.Value, stride *onnx.Value) headIndex {
	heads := c.keyValueHeads()
	slot, total := g.Input(keyValueSlotStart, onnx.Int64, onnx.N(TokensDim)), g.Input(keyValueSlotCount, onnx.Int64, onnx.D(1))
	head := g.Const(onnx.Ints(sequence(heads), heads))
	column := g.Const(onnx.Ints(sequence(heads), heads, 1))
	index := headIndex{}
	for j := range int64(2) {
		for _, token := range at {
			source := g.Mul(token, g.IntVector(2*heads))
			index.parts = append(index.parts, g.Add(source, g.Add(column, g.IntVector(j*heads))))
		}
	}
	slots := g.Add(g.Unsqueeze(slot, 1), g.Mul(g.Unsqueeze(stride, 1), head))
	half := g.Mul(g.Const(onnx.Ints(sequence(2), 2, 1)), total) // keys and values lie total apart
	index.inverse = g.ReshapeTo(g.Add(g.Unsqueeze(slots, 1), half), -1)
	return index
}

func sequence(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func (p *packedLayout) Words(table *onnx.Value) *onnx.Value {
	return grad.Lookup(p.g, table, p.vocab, p.g.Input(places, onnx.Int64, table.Shape[0]), p.words)
}

func (p *packedLayout) Positions(table *onnx.Value) *onnx.Value {
	return p.g.Gather(table, p.positions, 0)
}

// Types is a product with a one-hot matrix: its gradient runs on all cores, unlike that of a Gather.
func (p *packedLayout) Types(table *onnx.Value) *onnx.Value {
	hit := p.g.Equal(p.g.Unsqueeze(p.types, 1), p.g.Const(onnx.Ints(sequence(p.c.TypeVocabSize), 1, p.c.TypeVocabSize)))
	return p.g.Gemm(p.g.Cast(hit, onnx.Float32), table, nil, onnx.GemmAttrs{})
}

func (p *packedLayout) Heads(qkv *onnx.Value) (q, k, v []*onnx.Value) {
	parts := p.gather(qkv, p.qkv)
	n := len(p.bias)
	return parts[:n], parts[n : 2*n], parts[2*n:]
}

func (p *packedLayout) QueryHeads(q *onnx.Value) []*onnx.Value { return p.gather(q, p.query) }

func (p *packedLayout) KeyValueHeads(kv *onnx.Value) (k, v []*onnx.Value) {
	parts := p.gather(kv, p.keyValue)
	n := len(p.bias)
	return parts[:n], parts[n:]
}

func (p *packedLayout) gather(x *onnx.Value, by headIndex) []*onnx.Value {
	return grad.GatherParts(p.g, p.g.ReshapeTo(x, -1, p.c.HeadSize()), by.parts, by.inverse)
}

func (p *packedLayout) RowPositions(group int) *onnx.Value { return p.places[group] }

func (p *packedLayout) Bias(group int) *onnx.Value { return p.bias[group] }

func (p *packedLayout) Merge(groups []*onnx.Value) *onnx.Value {
	flat := make([]*onnx.Value, len(groups))
	for i, v := range groups {
		flat[i] = p.g.ReshapeTo(v, -1, p.c.HeadSize())
	}
	return p.g.ReshapeTo(grad.JoinParts(p.g, flat, p.merge, p.unmerge), -1, p.c.NumAttentionHeads*p.c.HeadSize())
}

// Fused is attention by one kernel. Its gradient is that of the reference.
func (p *packedLayout) Fused(qkv, reference *onnx.Value) *onnx.Value {
	h := p.c.HiddenSize
	part := func(i int64) *onnx.Value {
		return p.g.Slice(qkv, p.g.IntVector(i*h), p.g.IntVector((i+1)*h), p.g.IntVector(1))
	}
	scale := 1 / math.Sqrt(float64(p.c.HeadSize()))
	fused := p.g.PackedMultiHeadAttention(part(0), part(1), part(2), p.offsets, p.starts, p.c.NumAttentionHeads, float32(scale))
	return grad.DifferentiateAs(p.g, fused, reference)
}

func (p *packedLayout) Scores(q, k *onnx.Value, alpha float64) *onnx.Value {
	return p.g.FusedMatMul(q, k, onnx.FusedMatMulAttrs{Alpha: float32(alpha), TransB: true})
}

func (p *packedLayout) Values(probs, v *onnx.Value) *onnx.Value {
	return p.g.FusedMatMul(probs, v, onnx.FusedMatMulAttrs{})
}

func (p *packedLayout) Gelu(x *onnx.Value) *onnx.Value { return p.g.Gelu(x) }
