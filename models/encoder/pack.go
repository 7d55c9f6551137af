package encoder

import (
	"sort"

	"rag-retrieval-go/ortrain"
)

// Row is one tokenized text.
type Row struct {
	IDs   []int64
	Types []int64 // token types; nil means all zero
	// Unattended is the number of tokens at the end that no token attends to, such as ColBERT's query expansion.
	Unattended int
}

// Pack adds the inputs of a packed batch to b, for a graph made by NewPacked with the same number of groups: the tokens of all
// rows end to end, and the attention groups, of rows of like length. starts has the number of each row's first token.
func (c Config) Pack(b *ortrain.Batch, rows []Row, groups int) (starts []int64) {
	total := 0
	starts = make([]int64, len(rows))
	for i, r := range rows {
		starts[i] = int64(total)
		total += len(r.IDs)
	}
	ids, types := make([]int64, 0, total), make([]int64, 0, total)
	positions := make([]int64, 0, total)
	for _, r := range rows {
		ids = append(ids, r.IDs...)
		if r.Types != nil {
			types = append(types, r.Types...)
		} else {
			types = append(types, make([]int64, len(r.IDs))...)
		}
		for j := range r.IDs {
			positions = append(positions, c.firstPosition()+int64(j))
		}
	}
	n := int64(total)
	c.packWords(b, ids)
	b.Int(tokenTypeIDs, types, n)
	b.Int(positionIDs, positions, n)
	b.Dims[TokensDim] = n
	b.Tokens += total
	b.Lengths = Lengths(rows)
	members := groupByLength(rows, groups)
	c.packGroups(b, rows, starts, members)
	if c.window() != NoWindow {
		c.packWindows(b, rows, starts, members)
	}
	if c.FusedAttention {
		packFused(b, rows)
	}
	return starts
}

// packFused adds the inputs of fused attention, see onnx.Graph.PackedMultiHeadAttention.
func packFused(b *ortrain.Batch, rows []Row) {
	length := 1
	for _, r := range rows {
		length = max(length, len(r.IDs))
	}
	tokens, padding, starts := []int64{}, []int64{}, []int64{0}
	for i, r := range rows {
		for j := range length {
			if at := int64(i*length + j); j < len(r.IDs) {
				tokens = append(tokens, at)
			} else {
				padding = append(padding, at)
			}
		}
		starts = append(starts, int64(len(tokens)))
	}
	b.Int(paddedOffsets, append(tokens, padding...), int64(len(rows)), int64(length))
	b.Int(rowStarts, starts, int64(len(starts)))
}

// packWords adds the batch's vocabulary: its distinct ids, the place of every id of the tokenizer among them, and each token's
// place. See grad.Lookup.
func (c Config) packWords(b *ortrain.Batch, ids []int64) {
	const absent = -1
	place := make([]int64, c.VocabSize)
	for i := range place {
		place[i] = absent
	}
	var distinct []int64
	words := make([]int64, len(ids))
	for i, id := range ids {
		if place[id] == absent {
			place[id] = int64(len(distinct))
			distinct = append(distinct, id)
		}
		words[i] = place[id]
	}
	count := int64(len(distinct))
	for i, at := range place {
		if at == absent {
			place[i] = count
		}
	}
	b.Int(vocabulary, distinct, count)
	b.Int(places, place, c.VocabSize)
	b.Int(inputIDs, words, int64(len(ids)))
}

// packGroups adds the inputs of the attention groups.
func (c Config) packGroups(b *ortrain.Batch, rows []Row, starts []int64, groups [][]int) {
	total, heads := b.Dims[TokensDim], c.NumAttentionHeads
	cell := make([]int64, total) // of each token: where its row begins among the (row, position) pairs of all groups
	slot, stride := make([]int64, total), make([]int64, total)
	before := int64(0) // (head, position) slots in earlier groups
	for k, members := range groups {
		length := max(longest(rows, members), 1)
		count := len(members)
		tokens := make([]int64, max(count, 1)*length)
		bias := make([]float32, len(tokens))
		if count == 0 { // a row of padding: CUDA's BiasSoftmax divides by the number of rows
			count, tokens[0], bias[0] = 1, total, PaddingBias
		}
		for r, i := range members {
			for j := 0; j < length; j++ {
				at := r*length + j
				if j >= len(rows[i].IDs) {
					tokens[at], bias[at] = total, PaddingBias
					continue
				}
				t := starts[i] + int64(j)
				tokens[at] = t
				if j >= len(rows[i].IDs)-rows[i].Unattended {
					bias[at] = PaddingBias
				}
				cell[t] = before/heads + int64(r*length)
				slot[t], stride[t] = cell[t]*heads+int64(j), int64(length)
			}
		}
		b.Int(groupTokens(k), tokens, int64(count), int64(length))
		b.Float(groupBias(k), bias, int64(count), int64(length))
		b.Dims[groupRows(k)], b.Dims[groupLength(k)] = int64(count), int64(length)
		if c.masksByPlace() {
			b.Int(groupPositions(k), sequence(int64(length)), int64(length))
		}
		before += int64(len(tokens)) * heads
	}
	b.Int(tokenCount, []int64{total}, 1)
	b.Int(slotCount, []int64{before}, 1)
	b.Int(slotStart, slot, total)
	b.Int(slotStride, stride, total)
	if c.jointProjection() {
		return
	}
	n, keySlot := c.keyValueHeads(), make([]int64, total)
	for t := range keySlot {
		keySlot[t] = cell[t]*n + slot[t] - cell[t]*heads
	}
	b.Int(keySlotStart, keySlot, total)
}

// groupByLength divides the rows, sorted by length, into groups with the least work for attention, the sum over groups of
// rows · longest². It tries all divisions by dynamic programming. Groups that would not help stay empty.
func groupByLength(rows []Row, groups int) [][]int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return len(rows[order[i]].IDs) < len(rows[order[j]].IDs) })
	// A group may end where the length changes, at no more than maxCuts places.
	cuts := []int{0}
	for i := 1; i < len(order); i++ {
		if len(rows[order[i]].IDs) != len(rows[order[i-1]].IDs) {
			cuts = append(cuts, i)
		}
	}
	cuts = append(thin(cuts), len(order))
	longest := func(end int) float64 { return float64(len(rows[order[end-1]].IDs)) }
	n := len(cuts)
	best := make([][]float64, groups+1) // best[k][j] is the least work for the rows before cuts[j] in k groups
	from := make([][]int, groups+1)
	for k := range best {
		best[k], from[k] = make([]float64, n), make([]int, n)
		for j := 1; j < n; j++ {
			best[k][j] = 1e300
			if k == 0 {
				continue
			}
			for i := 0; i < j; i++ {
				work := best[k-1][i] + float64(cuts[j]-cuts[i])*longest(cuts[j])*longest(cuts[j])
				if work < best[k][j] {
					best[k][j], from[k][j] = work, i
				}
			}
		}
	}
	out := make([][]int, groups)
	j := n - 1
	for k := groups; k > 0; k-- {
		i := from[k][j]
		if j == 0 {
			i = 0
		}
		out[k-1] = order[cuts[i]:cuts[j]]
		j = i
	}
	return out
}

const maxCuts = 64

func thin(cuts []int) []int {
	if len(cuts) <= maxCuts {
		return cuts
	}
	out := make([]int, maxCuts)
	for i := range out {
		out[i] = cuts[i*len(cuts)/maxCuts]
	}
	return out
}
