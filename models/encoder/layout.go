package encoder

import "rag-retrieval-go/ortrain/onnx"

// Layout is how the tokens of a batch lie in a graph. *Packed and *Padded are the two layouts. Every block but the
// embeddings and attention works on [tokens, width] and does not care.
type Layout interface {
	// embed gives every token its row of a table of embeddings, in shapes that broadcast to each other and hold [tokens, width].
	embed(by tokenIndex, table *onnx.Value) *onnx.Value
	// places numbers every token within its text from 0: int64 [tokens].
	places() *onnx.Value
	// attention gives the groups that attention is computed in, for layers with a window, or NoWindow.
	attention(window int64) attentionGroups
}

// tokenIndex is what a table of embeddings is indexed by.
type tokenIndex int

const (
	byID tokenIndex = iota
	byPosition
	byType
)

// attentionGroups are padded groups of rows, which attention computes one after the other. In a group every query is compared
// with every key of its row; masks hide the pairs that do not count.
type attentionGroups interface {
	groups() []group
	// queries and keys bring the heads of tokens into the groups: each turns [tokens, heads·size] into one
	// [rows, heads, length, size] per group. Values take the same way as keys.
	queries(x *onnx.Value) []*onnx.Value
	keys(x *onnx.Value) []*onnx.Value
	// all does this for queries, keys and values at once, from the product that makes all three, [tokens, 3·heads·size].
	all(qkv *onnx.Value) (q, k, v []*onnx.Value)
	// merge is the inverse of queries, for what attention computed for them.
	merge(groups []*onnx.Value) *onnx.Value
	// fused is the output of an attention kernel on qkv, differentiated as out, the same computed by operators; out itself
	// where there is no such kernel.
	fused(qkv, out *onnx.Value) *onnx.Value
}

// group is what masks are made of.
type group struct {
	// padding is added to the scores of keys, float32 [rows, 1, 1, keys]: PaddingBias where there is no token, else 0.
	padding *onnx.Value
	// queryPlaces and keyPlaces are the tokens' places in their texts, int64 [rows, length], or [1, length] where they are the
	// same in all rows; nil where no mask reads them.
	queryPlaces, keyPlaces *onnx.Value
}

// PaddingBias is added to the attention scores of keys that do not count: as good as minus infinity, without its NaN.
const PaddingBias = -1e9

// NoWindow lets the tokens of a layer see all of their text.
const NoWindow = -1

func sequence(n int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}
