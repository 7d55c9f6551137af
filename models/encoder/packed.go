package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// The graph inputs of a packed batch, all int64 but the biases. The package comment has an example.
const (
	vocabulary   = "vocabulary"        // the distinct token ids of the batch
	places       = "vocabulary_places" // for each id of the tokenizer, its place there, or how many there are
	inputIDs     = "input_ids"         // of each token, its place in the vocabulary
	tokenTypeIDs = "token_type_ids"
	positionIDs  = "position_ids"
	tokenCount   = "token_count" // of the batch, [1]: also the number that padding has

	// Where each token's queries stand in the attention groups laid end to end: head h at slot + h·stride.
	slotStart  = "attention_slot"
	slotStride = "attention_stride"
	slotCount  = "slot_count" // of all groups, [1]
	// The same of keys and values, whose heads may be fewer.
	keySlotStart = "attention_slot_key_value"

	// Of fused attention, see onnx.Graph.PackedMultiHeadAttention.
	paddedOffsets = "attention_offsets"
	rowStarts     = "attention_starts"

	// Of layers with a window, see windows.go: [tokens] and, since a key may stand in several blocks, [tokens, blocks].
	windowSlotStart     = "window_slot"
	windowSlotStride    = "window_stride"
	windowKeySlotStart  = "window_key_slot"
	windowKeySlotStride = "window_key_stride"
)

// The names of inputs and dimensions of group k.
func groupTokens(k int) string    { return fmt.Sprintf("group%d.tokens", k) }
func groupBias(k int) string      { return fmt.Sprintf("group%d.bias", k) }
func groupRows(k int) string      { return fmt.Sprintf("rows_%d", k) }
func groupLength(k int) string    { return fmt.Sprintf("length_%d", k) }
func groupPositions(k int) string { return fmt.Sprintf("group%d.positions", k) } // of the columns: 0, 1, …, length-1

func windowQueries(k int) string        { return fmt.Sprintf("window%d.queries", k) }
func windowKeys(k int) string           { return fmt.Sprintf("window%d.keys", k) }
func windowBias(k int) string           { return fmt.Sprintf("window%d.bias", k) }
func windowQueryPositions(k int) string { return fmt.Sprintf("window%d.query_positions", k) }
func windowKeyPositions(k int) string   { return fmt.Sprintf("window%d.key_positions", k) }
func windowRows(k int) string           { return fmt.Sprintf("window_rows_%d", k) }
func windowLength(k int) string         { return fmt.Sprintf("window_length_%d", k) }
func windowKeyLength(k int) string      { return fmt.Sprintf("window_key_length_%d", k) }

// TokensDim is the name of the dimension that counts a packed batch's tokens.
const TokensDim = "tokens"

// Packed has the tokens of all rows end to end, without padding; only attention pads, in groups of rows of like length.
type Packed struct {
	g         *onnx.Graph
	c         Config
	vocab     *onnx.Value // distinct token ids
	ids       *onnx.Value // of each token, the place in vocab
	types     *onnx.Value
	positions *onnx.Value
	full      *packedGroups // of layers that see all of a text
	windowed  *packedGroups // of layers with a window; nil where there are none
}

// NewPacked adds the inputs of a packed batch with the given number of attention groups, some of which may be empty when
// the graph runs. Config.Pack makes their values.
func NewPacked(g *onnx.Graph, c Config, groups int) *Packed {
	tokens := onnx.NamedDim(TokensDim)
	p := &Packed{g: g, c: c,
		vocab:     g.Input(vocabulary, onnx.Int64, onnx.NamedDim(vocabulary)),
		ids:       g.Input(inputIDs, onnx.Int64, tokens),
		types:     g.Input(tokenTypeIDs, onnx.Int64, tokens),
		positions: g.Input(positionIDs, onnx.Int64, tokens),
	}
	var count *onnx.Value
	p.full, count = newPackedGroups(g, c, groups)
	if c.window() != NoWindow {
		p.windowed = newWindowGroups(g, c, count, groups)
	}
	return p
}

func (p *Packed) embed(by tokenIndex, table *onnx.Value) *onnx.Value {
	switch by {
	case byPosition:
		return p.g.Gather(table, p.positions, 0)
	case byType:
		// A product with a one-hot matrix: its gradient runs on all cores, unlike that of a Gather.
		hit := p.g.Equal(p.g.Unsqueeze(p.types, 1), p.g.Const(onnx.Ints(sequence(p.c.TypeVocabSize), 1, p.c.TypeVocabSize)))
		return p.g.Gemm(p.g.Cast(hit, onnx.Float32), table, nil, onnx.GemmAttrs{})
	}
	return grad.Lookup(p.g, table, p.vocab, p.g.Input(places, onnx.Int64, table.Shape[0]), p.ids)
}

// places are the positions themselves: they count from 0 in all architectures that read places.
func (p *Packed) places() *onnx.Value { return p.positions }

func (p *Packed) attention(window int64) attentionGroups {
	if window == NoWindow {
		return p.full
	}
	return p.windowed
}

// packedGroups gathers the heads of packed tokens straight into [rows, heads, length, size], so that no transpose is ever
// copied: in [tokens, heads·size] seen as [tokens·heads, size], head h of token t is row t·heads + h.
type packedGroups struct {
	g       *onnx.Graph
	c       Config
	list    []group
	joint   gathering // of queries, keys and values in one, where one product makes all three
	query   gathering
	key     gathering
	unmerge []*onnx.Value // the rows of [tokens·heads] that the places of each group are, tokens·heads at padding
	offsets *onnx.Value   // of fused attention; nil without
	starts  *onnx.Value
}

// gathering has the arguments of grad.GatherParts.
type gathering struct {
	parts   []*onnx.Value // for every group; of joint all queries', then all keys', then all values'
	inverse *onnx.Value
}

func (x gathering) of(g *onnx.Graph, c Config, data *onnx.Value) []*onnx.Value {
	return grad.GatherParts(g, g.ReshapeTo(data, -1, c.HeadSize()), x.parts, x.inverse)
}

// newPackedGroups adds the inputs of the groups that compare all tokens of a text. Sizes that indices are made of are inputs
// too: read off a shape, they would be copied to a GPU and back in each run. It also returns count, the input with the number of
// tokens, for newWindowGroups.
func newPackedGroups(g *onnx.Graph, c Config, groups int) (p *packedGroups, count *onnx.Value) {
	tokens, heads := onnx.NamedDim(TokensDim), c.NumAttentionHeads
	p = &packedGroups{g: g, c: c}
	slot, stride := g.Input(slotStart, onnx.Int64, tokens), g.Input(slotStride, onnx.Int64, tokens)
	defer g.Scope("layout")()
	count = g.Input(tokenCount, onnx.Int64, onnx.FixedDim(1))
	total := g.Input(slotCount, onnx.Int64, onnx.FixedDim(1))
	slots := headSlots(g, slot, stride, heads)
	p.query.inverse = g.ReshapeTo(slots, -1)
	column := g.Const(onnx.Ints(sequence(heads), heads, 1))
	joint := c.jointProjection()
	at := make([]*onnx.Value, groups) // the groups' tokens, [rows, 1, length]; 0 at padding
	parts := make([][]*onnx.Value, map[bool]int{true: 3, false: 1}[joint])
	for k := range groups {
		rows, length := onnx.NamedDim(groupRows(k)), onnx.NamedDim(groupLength(k))
		tokens := g.Input(groupTokens(k), onnx.Int64, rows, length) // padding reads token number count
		x := group{padding: g.Unsqueeze(g.Input(groupBias(k), onnx.Float32, rows, length), 1, 2)}
		token := g.Unsqueeze(tokens, 1) // [rows, 1, length]
		padding := g.Equal(token, count)
		at[k] = g.Where(padding, g.IntVector(0), token)
		source := g.Mul(at[k], g.IntVector(int64(len(parts))*heads))
		for j := range parts {
			parts[j] = append(parts[j], g.Add(source, g.Add(column, g.IntVector(int64(j)*heads))))
		}
		p.addUnmerge(token, padding, count, column)
		if c.masksByPlace() {
			x.queryPlaces = g.Unsqueeze(g.Input(groupPositions(k), onnx.Int64, length), 0)
			x.keyPlaces = x.queryPlaces
		}
		p.list = append(p.list, x)
	}
	if joint {
		p.joint.parts = append(append(parts[0], parts[1]...), parts[2]...)
		third := g.Mul(g.Const(onnx.Ints(sequence(3), 3, 1)), total) // queries, keys, values lie total apart
		p.joint.inverse = g.ReshapeTo(g.Add(g.Unsqueeze(slots, 1), third), -1)
	} else {
		p.query.parts = parts[0]
		keySlots := headSlots(g, g.Input(keySlotStart, onnx.Int64, tokens), stride, c.keyValueHeads())
		p.key = gathering{keyParts(g, c, at), g.ReshapeTo(keySlots, -1)}
	}
	if c.FusedAttention {
		p.fusedInputs()
	}
	return p, count
}

// addUnmerge adds the inverse of merge for a group: which row of [tokens·heads] each of its slots is. token is [rows, 1, length],
// padding says which of these are none, count is the number of tokens, and column numbers the heads, [heads, 1].
func (p *packedGroups) addUnmerge(token, padding, count, column *onnx.Value) {
	g, heads := p.g, p.c.NumAttentionHeads
	back := g.Where(padding, g.Mul(count, g.IntVector(heads)), g.Add(g.Mul(token, g.IntVector(heads)), column))
	p.unmerge = append(p.unmerge, g.ReshapeTo(back, -1))
}

// headSlots is where each token's heads stand in the groups, [tokens, heads]: slot[t] + h·stride[t].
func headSlots(g *onnx.Graph, slot, stride *onnx.Value, heads int64) *onnx.Value {
	head := g.Const(onnx.Ints(sequence(heads), heads))
	return g.Add(g.Unsqueeze(slot, 1), g.Mul(g.Unsqueeze(stride, 1), head))
}

// keyParts gathers keys, or values: at has the tokens of each group's keys, [rows, 1, length].
func keyParts(g *onnx.Graph, c Config, at []*onnx.Value) []*onnx.Value {
	heads, parts := c.keyValueHeads(), make([]*onnx.Value, len(at))
	column := g.Const(onnx.Ints(sequence(heads), heads, 1))
	for k, token := range at {
		parts[k] = g.Add(g.Mul(token, g.IntVector(heads)), column)
	}
	return parts
}

func (p *packedGroups) groups() []group { return p.list }

func (p *packedGroups) all(qkv *onnx.Value) (q, k, v []*onnx.Value) {
	parts, n := p.joint.of(p.g, p.c, qkv), len(p.list)
	return parts[:n], parts[n : 2*n], parts[2*n:]
}

func (p *packedGroups) queries(x *onnx.Value) []*onnx.Value { return p.query.of(p.g, p.c, x) }

func (p *packedGroups) keys(x *onnx.Value) []*onnx.Value { return p.key.of(p.g, p.c, x) }

func (p *packedGroups) merge(groups []*onnx.Value) *onnx.Value {
	flat := make([]*onnx.Value, len(groups))
	for i, v := range groups {
		flat[i] = p.g.ReshapeTo(v, -1, p.c.HeadSize())
	}
	return p.g.ReshapeTo(grad.JoinParts(p.g, flat, p.query.inverse, p.unmerge), -1, p.c.NumAttentionHeads*p.c.HeadSize())
}

func (p *packedGroups) fusedInputs() {
	int32s := func(name string, dims ...onnx.Dim) *onnx.Value {
		return p.g.Cast(p.g.Input(name, onnx.Int64, dims...), onnx.Int32)
	}
	p.offsets = int32s(paddedOffsets, onnx.NamedDim("padded_rows"), onnx.NamedDim("padded_length"))
	p.starts = int32s(rowStarts, onnx.NamedDim("row_starts"))
}

func (p *packedGroups) fused(qkv, out *onnx.Value) *onnx.Value {
	if p.offsets == nil {
		return out
	}
	h := p.c.HiddenSize
	part := func(i int64) *onnx.Value {
		return p.g.Slice(qkv, p.g.IntVector(i*h), p.g.IntVector((i+1)*h), p.g.IntVector(1))
	}
	scale := 1 / math.Sqrt(float64(p.c.HeadSize()))
	fused := p.g.PackedMultiHeadAttention(part(0), part(1), part(2), p.offsets, p.starts, p.c.NumAttentionHeads, float32(scale))
	return grad.DifferentiateAs(p.g, fused, out)
}
