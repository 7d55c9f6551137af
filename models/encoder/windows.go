package encoder

import (
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// A layer with a window w compares a token with the w tokens to either side. In a text that is much longer, the mask would hide
// most of the pairs. So the text is cut into blocks of B queries, and a block is compared only with the B + 2w keys around it
// (B + w where attention is causal):
//
//	text        0 1 2 3 4 5 6 7 8 9        B = 4, w = 2
//	block 0     queries 0 1 2 3            keys         0 1 2 3 4 5
//	block 1     queries 4 5 6 7            keys     2 3 4 5 6 7 8 9
//	block 2     queries 8 9                keys                     6 7 8 9
//
// A block is a row of its attention group, with different lengths of queries and keys. A key stands in several blocks, and its
// gradient is the sum over these. The mask hides the pairs that are too far apart, as in every layer.
// Source: the banded attention of Beltagy et al. 2020 (Longformer).

// window is the window of the layers that have one, the widest where they differ; NoWindow where no layer has one.
func (c Config) window() int64 {
	w := int64(NoWindow)
	for _, x := range c.Blocks.Windows {
		w = max(w, x)
	}
	return w
}

// newWindowGroups adds the inputs of the attention groups of layers with a window. count is the number of tokens, an input that
// newPackedGroups adds.
func newWindowGroups(g *onnx.Graph, c Config, count *onnx.Value, groups int) *packedGroups {
	tokens, blocks, heads := onnx.NamedDim(TokensDim), onnx.NamedDim("window_blocks"), c.NumAttentionHeads
	p := &packedGroups{g: g, c: c}
	slot, stride := g.Input(windowSlotStart, onnx.Int64, tokens), g.Input(windowSlotStride, onnx.Int64, tokens)
	keySlot := g.Input(windowKeySlotStart, onnx.Int64, tokens, blocks)
	keyStride := g.Input(windowKeySlotStride, onnx.Int64, tokens, blocks)
	defer g.Scope("window_layout")()
	p.query.inverse = g.ReshapeTo(headSlots(g, slot, stride, heads), -1)
	column := g.Const(onnx.Ints(sequence(heads), heads, 1))
	keys := make([]*onnx.Value, groups)
	for k := range groups {
		rows, length, keyLength := onnx.NamedDim(windowRows(k)), onnx.NamedDim(windowLength(k)), onnx.NamedDim(windowKeyLength(k))
		token := g.Unsqueeze(g.Input(windowQueries(k), onnx.Int64, rows, length), 1) // [rows, 1, length]
		padding := g.Equal(token, count)
		p.query.parts = append(p.query.parts, g.Add(g.Mul(g.Where(padding, g.IntVector(0), token), g.IntVector(heads)), column))
		p.addUnmerge(token, padding, count, column)
		key := g.Unsqueeze(g.Input(windowKeys(k), onnx.Int64, rows, keyLength), 1)
		keys[k] = g.Where(g.Equal(key, count), g.IntVector(0), key)
		p.list = append(p.list, group{
			padding:     g.Unsqueeze(g.Input(windowBias(k), onnx.Float32, rows, keyLength), 1, 2),
			queryPlaces: g.Input(windowQueryPositions(k), onnx.Int64, rows, length),
			keyPlaces:   g.Input(windowKeyPositions(k), onnx.Int64, rows, keyLength),
		})
	}
	p.key = gathering{keyParts(g, c, keys), blockSlots(g, keySlot, keyStride, c.keyValueHeads())}
	return p
}

// blockSlots is headSlots for keys that stand in several blocks: [tokens·heads, blocks].
func blockSlots(g *onnx.Graph, slot, stride *onnx.Value, heads int64) *onnx.Value {
	head := g.Const(onnx.Ints(sequence(heads), heads, 1))
	slots := g.Add(g.Unsqueeze(slot, 1), g.Mul(g.Unsqueeze(stride, 1), head)) // [tokens, heads, blocks]
	return g.Reshape(slots, g.Concat(0, g.IntVector(-1), g.Slice(g.Shape(slot), g.IntVector(1), g.IntVector(2), g.IntVector(0))))
}

// cut says how the texts of a group are divided for layers with a window.
type cut struct {
	block  int // queries of a row
	keys   int // keys of a row
	before int // keys before the first query
}

// minWindowBlock is the least queries of a block: smaller matrix products are slower than what they save.
const minWindowBlock = 32

// cutFor chooses between whole texts and blocks for a group whose longest text has so many tokens: whichever has fewer pairs of
// queries and keys.
func (c Config) cutFor(longest int) cut {
	whole := cut{block: longest, keys: longest}
	w := c.window()
	if w >= int64(longest) {
		return whole
	}
	window := int(w)
	b := cut{block: c.WindowBlock, before: window}
	if b.block == 0 {
		b.block = max(2*window, minWindowBlock)
	}
	b.keys = b.block + window
	if !c.Blocks.Causal {
		b.keys += window
	}
	blocks := (longest + b.block - 1) / b.block
	if blocks*b.block*b.keys >= longest*longest {
		return whole
	}
	return b
}

// headSlot is where a token's heads stand in the groups laid end to end: head h at start + h·stride.
type headSlot struct{ start, stride int64 }

// windowPacker lays the tokens of a batch out for the layers with a window.
type windowPacker struct {
	c       Config
	rows    []Row
	starts  []int64 // of each row, the first token
	total   int64   // tokens of the batch: also the number that padding has
	queries []headSlot
	keys    [][]headSlot // of each token, one for each block it stands in
	// The slots of earlier groups.
	queriesBefore, keysBefore int64
}

// windowGroup is a group under construction: its rows end to end.
type windowGroup struct {
	cut
	rows                                  int64
	queries, queryPlaces, keys, keyPlaces []int64
	bias                                  []float32
}

// packWindows adds the inputs of layers with a window. groups has the members of each full group.
func (c Config) packWindows(b *ortrain.Batch, rows []Row, starts []int64, groups [][]int) {
	total := b.Dims[TokensDim]
	p := windowPacker{c: c, rows: rows, starts: starts, total: total, queries: make([]headSlot, total), keys: make([][]headSlot, total)}
	for k, members := range groups {
		x := windowGroup{cut: c.cutFor(longest(rows, members))}
		for _, i := range members {
			for first := 0; first < len(rows[i].IDs); first += x.block {
				p.add(&x, i, first)
			}
		}
		if x.rows == 0 { // a row of padding, as in packGroups
			x = windowGroup{cut{block: 1, keys: 1}, 1, []int64{total}, []int64{0}, []int64{total}, []int64{0}, []float32{PaddingBias}}
		}
		p.queriesBefore += x.rows * c.NumAttentionHeads * int64(x.block)
		p.keysBefore += x.rows * c.keyValueHeads() * int64(x.cut.keys)
		x.bind(b, k)
	}
	p.bindSlots(b)
}

// add appends the block of row i that begins with the query at place first.
func (p *windowPacker) add(x *windowGroup, i, first int) {
	n, length, keyLength := len(p.rows[i].IDs), int64(x.block), int64(x.cut.keys)
	for j := range x.block {
		place, token := first+j, p.total
		if place < n {
			token = p.starts[i] + int64(place)
			p.queries[token] = headSlot{p.queriesBefore + x.rows*p.c.NumAttentionHeads*length + int64(j), length}
		}
		x.queries, x.queryPlaces = append(x.queries, token), append(x.queryPlaces, int64(place))
	}
	for j := range x.cut.keys {
		place, token, bias := first-x.before+j, p.total, float32(PaddingBias)
		if place >= 0 && place < n {
			token = p.starts[i] + int64(place)
			p.keys[token] = append(p.keys[token], headSlot{p.keysBefore + x.rows*p.c.keyValueHeads()*keyLength + int64(j), keyLength})
			if place < n-p.rows[i].Unattended {
				bias = 0
			}
		}
		x.keys, x.keyPlaces, x.bias = append(x.keys, token), append(x.keyPlaces, int64(place)), append(x.bias, bias)
	}
	x.rows++
}

// bind adds the inputs of group k.
func (x *windowGroup) bind(b *ortrain.Batch, k int) {
	length, keyLength := int64(x.block), int64(x.cut.keys)
	b.Int(windowQueries(k), x.queries, x.rows, length)
	b.Int(windowQueryPositions(k), x.queryPlaces, x.rows, length)
	b.Int(windowKeys(k), x.keys, x.rows, keyLength)
	b.Int(windowKeyPositions(k), x.keyPlaces, x.rows, keyLength)
	b.Float(windowBias(k), x.bias, x.rows, keyLength)
	b.Dims[windowRows(k)], b.Dims[windowLength(k)], b.Dims[windowKeyLength(k)] = x.rows, length, keyLength
}

// bindSlots adds where each token's heads stand. A key that stands in fewer blocks than others has slots behind all groups,
// where grad.GatherParts has zeros.
func (p *windowPacker) bindSlots(b *ortrain.Batch) {
	slot, stride := make([]int64, p.total), make([]int64, p.total)
	blocks := 1
	for t, s := range p.queries {
		slot[t], stride[t] = s.start, s.stride
		blocks = max(blocks, len(p.keys[t]))
	}
	keySlot, keyStride := make([]int64, 0, p.total*int64(blocks)), make([]int64, 0, p.total*int64(blocks))
	for _, stands := range p.keys {
		for j := range blocks {
			s := headSlot{start: p.keysBefore}
			if j < len(stands) {
				s = stands[j]
			}
			keySlot, keyStride = append(keySlot, s.start), append(keyStride, s.stride)
		}
	}
	b.Int(windowSlotStart, slot, p.total)
	b.Int(windowSlotStride, stride, p.total)
	b.Int(windowKeySlotStart, keySlot, p.total, int64(blocks))
	b.Int(windowKeySlotStride, keyStride, p.total, int64(blocks))
}

// longest is the number of tokens of the longest member; 0 where there is none.
func longest(rows []Row, members []int) int {
	n := 0
	for _, i := range members {
		n = max(n, len(rows[i].IDs))
	}
	return n
}
