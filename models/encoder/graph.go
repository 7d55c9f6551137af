package encoder

import (
	"fmt"
	"strconv"
	"strings"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// Weights finds a parameter's value in the graph under construction, by the name that Params gives it.
type Weights func(name string) *onnx.Value

const projection = "embeddings_project" // ELECTRA's, from narrow tables to the hidden size

// Params lists the encoder's trainable tensors. Query, key and value projections are one tensor where a layer has as many
// heads of each, so that it has one large product instead of three.
func (c Config) Params() []flat.Param {
	n, h, e := c.architecture().names(), c.HiddenSize, c.EmbeddingSize
	table := func(name string, rows int64) flat.Param {
		return flat.Param{Name: name, Dims: []int64{rows, e}, Decay: true, Table: true}
	}
	params := []flat.Param{table(n.words, c.VocabSize)}
	if c.Blocks.Rotary == nil {
		params = append(params, table(n.positions, c.MaxPositionEmbeddings))
	}
	if c.TypeVocabSize > 0 {
		params = append(params, flat.Param{Name: n.types, Dims: []int64{c.TypeVocabSize, e}, Decay: true})
	}
	if c.Blocks.EmbeddingNorm {
		params = append(params, c.Norm(n.embeddingNorm, e)...)
	}
	if e != h {
		params = append(params, Linear(projection, h, e, true)...)
	}
	for i := 0; i < c.NumHiddenLayers; i++ {
		params = append(params, c.layerParams(i)...)
	}
	if c.Blocks.PreNorm {
		params = append(params, c.Norm(n.finalNorm, h)...)
	}
	return params
}

// layerParams lists those of one layer.
func (c Config) layerParams(i int) []flat.Param {
	n, x, h, f := c.layer(i), c.Blocks, c.HiddenSize, c.IntermediateSize
	heads, keyValues := c.NumAttentionHeads*c.HeadSize(), c.keyValueHeads()*c.HeadSize()
	var params []flat.Param
	if n.queryKeyValue != "" {
		params = Linear(n.queryKeyValue, 3*heads, h, x.AttentionBias)
	} else {
		params = append(Linear(n.query, heads, h, x.AttentionBias), Linear(n.keyValue, 2*keyValues, h, x.AttentionBias)...)
	}
	if x.QueryKeyNorm {
		params = append(append(params, c.Norm(n.queryNorm, c.HeadSize())...), c.Norm(n.keyNorm, c.HeadSize())...)
	}
	params = append(params, Linear(n.attentionOutput, h, heads, x.AttentionBias)...)
	if !x.BareFirst || i > 0 {
		params = append(params, c.Norm(n.attentionNorm, h)...)
	}
	up := f
	if x.Gated {
		up = 2 * f
	}
	params = append(params, Linear(n.up, up, h, x.FeedForwardBias)...)
	params = append(params, Linear(n.down, h, f, x.FeedForwardBias)...)
	return append(params, c.Norm(n.feedForwardNorm, h)...)
}

// layer names the parameters of layer number i.
func (c Config) layer(i int) layerNames {
	n := c.architecture().names().layer
	for _, s := range []*string{
		&n.queryKeyValue, &n.query, &n.keyValue, &n.queryNorm, &n.keyNorm, &n.attentionOutput, &n.attentionNorm, &n.up, &n.down, &n.feedForwardNorm,
	} {
		*s = strings.Replace(*s, "%d", strconv.Itoa(i), 1)
	}
	return n
}

// Layout is how a batch's tokens lie in a graph: packed, or padded as other runtimes expect it.
type Layout interface {
	// Words, Positions and Types look every token up in a table of embeddings; the shapes broadcast to each other.
	Words(table *onnx.Value) *onnx.Value
	Positions(table *onnx.Value) *onnx.Value
	Types(table *onnx.Value) *onnx.Value
	// Heads cuts [tokens, 3·hidden] into queries, keys and values of one or more padded groups, each
	// [rows, heads, length, head size].
	Heads(qkv *onnx.Value) (q, k, v []*onnx.Value)
	// QueryHeads and KeyValueHeads are Heads where queries [tokens, heads·size] and keys with values
	// [tokens, 2·key-value heads·size] come apart.
	QueryHeads(q *onnx.Value) []*onnx.Value
	KeyValueHeads(kv *onnx.Value) (k, v []*onnx.Value)
	// RowPositions numbers the tokens of a group's rows from 0: [length].
	RowPositions(group int) *onnx.Value
	// Bias is what a group's attention scores are offset by: [rows, 1, 1, length], very negative at padding.
	Bias(group int) *onnx.Value
	// Merge puts the groups' [rows, heads, length, head size] back to [tokens, hidden].
	Merge(groups []*onnx.Value) *onnx.Value
	// Scores is alpha · q · kᵀ.
	Scores(q, k *onnx.Value, alpha float64) *onnx.Value
	// Values is probs · v.
	Values(probs, v *onnx.Value) *onnx.Value
	// Gelu is the activation, in operators that the layout's opset has.
	Gelu(x *onnx.Value) *onnx.Value
}

// Training are the choices that only a graph with a backward pass has. The zero value is evaluation.
type Training struct {
	Dropout *dropout.Graph // nil: nothing is dropped
	// RecomputeAttention makes attention scores and probabilities, quadratic in length, again in the backward pass
	// instead of keeping them: a few percent slower.
	RecomputeAttention bool
	// RecomputeLayers keeps only the two residual sums of each layer and makes the rest again in the backward pass: less
	// memory for most of a second forward pass (gradient checkpointing, Chen et al. 2016).
	RecomputeLayers bool
	// Half is the type that matrix products and the activation compute in, onnx.Float16 or onnx.BFloat16; zero: float32,
	// as everything else does: parameters, the residual stream, LayerNorm and softmax (Micikevicius et al. 2017).
	Half onnx.DType
}

// keptAttention is how many bytes of attention probabilities a training graph may keep.
const keptAttention = 3 << 29

// RecomputeAttention says whether the probabilities of batches of these limits are too large to keep. Each layer
// would keep two values of [rows, heads, length, length]: with and without dropout.
func (c Config) RecomputeAttention(rows, maxLength int) bool {
	n := float64(rows) * float64(c.NumAttentionHeads) * float64(maxLength) * float64(maxLength)
	return 2*4*n*float64(c.NumHiddenLayers) > keptAttention
}

// Build appends the encoder and gives the last hidden state, [tokens, hidden], or of the tokens with the numbers wanted
// alone: the last layer then does most of its work for those only.
func (c Config) Build(g *onnx.Graph, w Weights, l Layout, t Training, wanted *onnx.Value) *onnx.Value {
	b := builder{
		c: c, g: g, w: w, l: l, drop: t.Dropout, recompute: t.RecomputeAttention, kind: t.Half,
		masks: map[string]*onnx.Value{}, turns: map[string]turn{},
	}
	x := b.embed()
	for i := 0; i < c.NumHiddenLayers; i++ {
		before := len(g.Nodes)
		var sums []*onnx.Value
		if i == c.NumHiddenLayers-1 {
			b.wanted = wanted
		}
		x, sums = b.layer(i, x)
		if t.RecomputeLayers {
			grad.RecomputeAll(g, g.Nodes[before:], sums...)
		}
	}
	if c.Blocks.PreNorm {
		x = b.norm(c.architecture().names().finalNorm, x)
	}
	return x
}

type builder struct {
	c    Config
	g    *onnx.Graph
	w    Weights
	l    Layout
	drop *dropout.Graph

	kind      onnx.DType  // of matrix products; zero: float32
	recompute bool        // attention scores and probabilities
	wanted    *onnx.Value // in the last layer: the tokens that matter after attention; nil: all
	masks     map[string]*onnx.Value
	turns     map[string]turn
}

// layer gives its output and the residual sums, before the norms, of its two halves:
//
//	post-norm:  y = norm(x + attention(x)),  out = norm(y + feedForward(y))
//	pre-norm:   y = x + attention(norm(x)),  out = y + feedForward(norm(y))
func (b builder) layer(i int, x *onnx.Value) (out *onnx.Value, sums []*onnx.Value) {
	g, n, name := b.g, b.c.layer(i), b.layerScope(i)
	read := x
	if b.c.Blocks.PreNorm && !(b.c.Blocks.BareFirst && i == 0) {
		read = b.norm(n.attentionNorm, x)
	}
	attended := b.attention(i, read)
	if b.wanted != nil {
		// The gradient of a Gather adds up, which float16 has no kernel for.
		attended, x = g.Gather(b.full(attended), b.wanted, 0), g.Gather(x, b.wanted, 0)
	}
	attended = b.full(b.linear(n.attentionOutput, attended, b.c.Blocks.AttentionBias))
	if b.c.Blocks.AttentionOutputDropout {
		attended = b.drop.Apply(name+"/attention/output/dropout", attended, b.c.attentionOutputRate())
	}
	first := g.Add(x, attended)
	y := first
	if !b.c.Blocks.PreNorm {
		y = b.norm(n.attentionNorm, first)
	}
	read = y
	if b.c.Blocks.PreNorm {
		read = b.norm(n.feedForwardNorm, y)
	}
	out = b.full(b.feedForward(n, name, read))
	if b.c.Blocks.OutputDropout {
		out = b.drop.Apply(name+"/output/dropout", out, b.c.HiddenDropout)
	}
	second := g.Add(y, out)
	if b.c.Blocks.PreNorm {
		return second, []*onnx.Value{first, second}
	}
	return b.norm(n.feedForwardNorm, second), []*onnx.Value{first, second}
}

// layerScope names the nodes of layer number i that have no parameter to be named after.
func (b builder) layerScope(i int) string { return fmt.Sprintf("encoder.layer.%d", i) }
