package encoder

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// Weights returns the graph's value of a parameter, by the name that Params gives it.
type Weights func(name string) *onnx.Value

// projection is ELECTRA's linear layer from the width of its embeddings to the hidden size.
const projection = "embeddings_project"

// Params lists the encoder's tensors. The query, key and value projections of a layer are one tensor where it has as many heads of
// each: one large product is faster than three.
func (c Config) Params() []flat.Param {
	params := frozen(c.embeddingParams(), c.LoRA != nil || c.Freeze.Embeddings)
	for i := range c.NumHiddenLayers {
		layer := frozen(c.layerParams(i), c.LoRA != nil || i < c.Freeze.Layers)
		params = append(append(params, layer...), c.adapterParams(c.layer(i), layer)...)
	}
	if c.Blocks.PreNorm {
		params = append(params, frozen(c.Norm(c.architecture().names().finalNorm, c.HiddenSize), c.LoRA != nil)...)
	}
	return params
}

// frozen marks parameters as not trained, if they are not.
func frozen(params []flat.Param, are bool) []flat.Param {
	for i := range params {
		params[i].Frozen = are
	}
	return params
}

// embeddingParams lists the parameters before the first layer.
func (c Config) embeddingParams() []flat.Param {
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
	return params
}

// layerParams lists the parameters of layer i.
func (c Config) layerParams(i int) []flat.Param {
	n, x, h, f := c.layer(i), c.Blocks, c.HiddenSize, c.IntermediateSize
	heads, keyValues := c.NumAttentionHeads*c.HeadSize(), c.keyValueHeads()*c.HeadSize()
	var params []flat.Param
	if n.queryKeyValue != "" {
		params = Linear(n.queryKeyValue, 3*heads, h, x.QueryKeyValueBias)
	} else {
		params = append(Linear(n.query, heads, h, x.QueryKeyValueBias), Linear(n.keyValue, 2*keyValues, h, x.QueryKeyValueBias)...)
	}
	if x.QueryKeyNorm {
		params = append(append(params, c.Norm(n.queryNorm, c.HeadSize())...), c.Norm(n.keyNorm, c.HeadSize())...)
	}
	params = append(params, Linear(n.attentionOutput, h, heads, x.AttentionOutputBias)...)
	if !x.NoFirstNorm || i > 0 {
		params = append(params, c.Norm(n.attentionNorm, h)...)
	}
	if x.BranchNorm {
		params = append(append(params, c.Norm(n.attentionOutputNorm, h)...), c.Norm(n.feedForwardOutputNorm, h)...)
	}
	up := f
	if x.Gated {
		up = 2 * f
	}
	params = append(params, Linear(n.up, up, h, x.UpBias)...)
	params = append(params, Linear(n.down, h, f, x.DownBias)...)
	return append(params, c.Norm(n.feedForwardNorm, h)...)
}

// layer gives the names of the parameters of layer i.
func (c Config) layer(i int) layerNames {
	n := c.architecture().names().layer
	for _, s := range []*string{
		&n.queryKeyValue, &n.query, &n.keyValue, &n.queryNorm, &n.keyNorm, &n.attentionOutput, &n.attentionNorm, &n.attentionOutputNorm,
		&n.up, &n.down, &n.feedForwardNorm, &n.feedForwardOutputNorm,
	} {
		*s = strings.Replace(*s, "%d", strconv.Itoa(i), 1)
	}
	return n
}

// Training has the options of a graph that will be differentiated. The zero value is for evaluation.
type Training struct {
	Dropout *dropout.Graph // nil: nothing is dropped
	// RecomputeAttention computes attention scores and probabilities, whose size is quadratic in the length, again in the
	// backward pass instead of keeping them. It costs a few percent of speed.
	RecomputeAttention bool
	// RecomputeLayers keeps only the two residual sums of each layer and computes the rest again in the backward pass. It saves
	// memory and costs most of a second forward pass (gradient checkpointing, Chen et al. 2016).
	RecomputeLayers bool
	// KeepProducts keeps only what matrix products and softmax compute and the residual sums of each layer, and computes norms,
	// activations and rotations again in the backward pass.
	KeepProducts bool
	// Half is the type of matrix products and of the feed-forward's activations, onnx.Float16 or onnx.BFloat16; zero means
	// float32. Parameters, the residual stream, norms and softmax are always float32 (Micikevicius et al. 2017).
	Half onnx.DType
}

// keptAttention is the most bytes of attention scores and probabilities that a training graph keeps.
const keptAttention = 3 << 29

// RecomputeAttention says whether the attention probabilities of a batch of so many rows, of at most maxLength tokens each, are
// too large to keep. A layer keeps two tensors of [rows, heads, queries, keys]: with and without dropout.
func (c Config) RecomputeAttention(rows, maxLength int) bool {
	scores := 0.0 // of one text and head, in all layers
	for i := range c.NumHiddenLayers {
		at := cut{block: maxLength, keys: maxLength}
		if c.windowOf(i) != NoWindow {
			at = c.cutFor(maxLength)
		}
		scores += float64((maxLength+at.block-1)/at.block) * float64(at.block) * float64(at.keys)
	}
	return 2*4*float64(rows)*float64(c.NumAttentionHeads)*scores > keptAttention
}

// Build appends the encoder to g and returns the last hidden states, [tokens, hidden]. If wanted is not nil, it has the numbers
// of the tokens, int64 [n], whose states are returned, [n, hidden]: then the last layer does most of its work for these only.
func (c Config) Build(g *onnx.Graph, w Weights, l Layout, t Training, wanted *onnx.Value) *onnx.Value {
	b := builder{
		c: c, g: g, w: w, l: l, drop: t.Dropout, recompute: t.RecomputeAttention, halfType: t.Half,
		masks: map[int64][]attentionMask{}, angles: map[Rotation]angles{},
	}
	x := b.embed()
	b.prepare()
	for i := 0; i < c.NumHiddenLayers; i++ {
		before := len(g.Nodes)
		var sums []*onnx.Value
		if i == c.NumHiddenLayers-1 {
			b.wanted = wanted
		}
		x, sums = b.layer(i, x)
		switch {
		case t.RecomputeLayers:
			grad.RecomputeAll(g, g.Nodes[before:], sums...)
		case t.KeepProducts:
			grad.RecomputeAll(g, slices.DeleteFunc(slices.Clone(g.Nodes[before:]), isProduct), sums...)
		}
	}
	if c.Blocks.PreNorm {
		x = b.norm(c.architecture().names().finalNorm, x)
	}
	return x
}

// isProduct says whether a node takes much longer to compute again than to read.
func isProduct(n *onnx.Node) bool {
	return slices.Contains([]string{"Gemm", "FusedMatMul", "Softmax", "PackedMultiHeadAttention"}, n.Op)
}

type builder struct {
	c    Config
	g    *onnx.Graph
	w    Weights
	l    Layout
	drop *dropout.Graph

	halfType  onnx.DType                // of matrix products, see Training.Half
	recompute bool                      // see Training.RecomputeAttention
	wanted    *onnx.Value               // of the last layer, see Build; nil in the others
	masks     map[int64][]attentionMask // by window: the mask of each attention group
	angles    map[Rotation]angles       // of the tokens, by rotation
}

// prepare computes the masks and angles that layers share. If the first layer that needs one computed it, recomputing that layer
// would compute it again.
func (b builder) prepare() {
	for i := range b.c.NumHiddenLayers {
		if w := b.c.windowOf(i); b.masks[w] == nil {
			b.masks[w] = b.attentionMasks(w)
		}
		if r := b.c.Blocks.Rotary; r != nil {
			if _, ok := b.angles[r[i]]; !ok {
				b.angles[r[i]] = b.angle(r[i])
			}
		}
	}
}

// layer computes layer i of x, [tokens, hidden]. sums are its two residual sums, before their norms:
//
//	post-norm:  y = norm(x + attention(x)),  out = norm(y + feedForward(y))
//	pre-norm:   y = x + attention(norm(x)),  out = y + feedForward(norm(y))
//
// With BranchNorm, a norm of its own follows attention and feedForward.
func (b builder) layer(i int, x *onnx.Value) (out *onnx.Value, sums []*onnx.Value) {
	g, n, name := b.g, b.c.layer(i), b.layerScope(i)
	read := x
	if b.c.Blocks.PreNorm && !(b.c.Blocks.NoFirstNorm && i == 0) {
		read = b.norm(n.attentionNorm, x)
	}
	attended := b.attention(i, read)
	if b.wanted != nil {
		// In float32: the gradient of a Gather is a sum, for which float16 has no kernel.
		attended, x = g.Gather(b.full(attended), b.wanted, 0), g.Gather(x, b.wanted, 0)
	}
	attended = b.full(b.linear(n.attentionOutput, attended, b.c.Blocks.AttentionOutputBias))
	if b.c.Blocks.BranchNorm {
		attended = b.norm(n.attentionOutputNorm, attended)
	}
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
	if b.c.Blocks.BranchNorm {
		out = b.norm(n.feedForwardOutputNorm, out)
	}
	if b.c.Blocks.OutputDropout {
		out = b.drop.Apply(name+"/output/dropout", out, b.c.HiddenDropout)
	}
	second := g.Add(y, out)
	if b.c.Blocks.PreNorm {
		return second, []*onnx.Value{first, second}
	}
	return b.norm(n.feedForwardNorm, second), []*onnx.Value{first, second}
}

// layerScope is the name of layer i for nodes that are not named after a parameter.
func (b builder) layerScope(i int) string { return fmt.Sprintf("encoder.layer.%d", i) }
