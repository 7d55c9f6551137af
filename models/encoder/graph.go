package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// Weights finds a parameter's value in the graph under construction, by the name that Params gives it.
type Weights func(name string) *onnx.Value

const (
	typeTable  = "embeddings.token_type_embeddings.weight"
	projection = "embeddings_project" // ELECTRA's, from narrow tables to the hidden size
)

// Params lists the encoder's trainable tensors. Query, key and value projections are one tensor called qkv, so that
// each layer has one large product instead of three.
func (c Config) Params() []flat.Param {
	h, f, e := c.HiddenSize, c.IntermediateSize, c.EmbeddingSize
	table := func(name string, rows int64) flat.Param {
		return flat.Param{Name: name, Dims: []int64{rows, e}, Decay: true, Table: true}
	}
	params := []flat.Param{
		table("embeddings.word_embeddings.weight", c.VocabSize),
		table("embeddings.position_embeddings.weight", c.MaxPositionEmbeddings),
	}
	if c.TypeVocabSize > 0 {
		params = append(params, flat.Param{Name: typeTable, Dims: []int64{c.TypeVocabSize, e}, Decay: true})
	}
	params = append(params, norm("embeddings.LayerNorm", e)...)
	if e != h {
		params = append(params, Linear(projection, h, e)...)
	}
	for i := 0; i < c.NumHiddenLayers; i++ {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		params = append(params, Linear(layer+"attention.self.qkv", 3*h, h)...)
		params = append(params, Linear(layer+"attention.output.dense", h, h)...)
		params = append(params, norm(layer+"attention.output.LayerNorm", h)...)
		params = append(params, Linear(layer+"intermediate.dense", f, h)...)
		params = append(params, Linear(layer+"output.dense", h, f)...)
		params = append(params, norm(layer+"output.LayerNorm", h)...)
	}
	return params
}

// Linear lists the parameters of a dense layer.
func Linear(name string, out, in int64) []flat.Param {
	return []flat.Param{
		{Name: name + ".weight", Dims: []int64{out, in}, Decay: true},
		{Name: name + ".bias", Dims: []int64{out}},
	}
}

func norm(name string, width int64) []flat.Param {
	return []flat.Param{{Name: name + ".weight", Dims: []int64{width}}, {Name: name + ".bias", Dims: []int64{width}}}
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
// Source: Devlin et al. 2018, as transformers' BertModel and its relatives compute it.
func (c Config) Build(g *onnx.Graph, w Weights, l Layout, t Training, wanted *onnx.Value) *onnx.Value {
	b := builder{c: c, g: g, w: w, l: l, drop: t.Dropout, recompute: t.RecomputeAttention, kind: t.Half}
	x := b.embed()
	for i := 0; i < c.NumHiddenLayers; i++ {
		before := len(g.Nodes)
		var sums []*onnx.Value
		if i == c.NumHiddenLayers-1 {
			b.wanted = wanted
		}
		x, sums = b.layer(fmt.Sprintf("encoder.layer.%d", i), x)
		if t.RecomputeLayers {
			g.RecomputeAll(g.Nodes[before:], sums...)
		}
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
}

func (b builder) linear(name string, x *onnx.Value) *onnx.Value {
	defer b.g.Scope(name)()
	return b.g.Gemm(b.half(x), b.half(b.w(name+".weight")), b.half(b.w(name+".bias")), onnx.GemmAttrs{TransB: true})
}

// half is x as matrix products read it, full as everything else does.
func (b builder) half(x *onnx.Value) *onnx.Value {
	if b.kind == 0 || x.DType == b.kind {
		return x
	}
	return b.g.Cast(x, b.kind)
}

func (b builder) full(x *onnx.Value) *onnx.Value {
	if x.DType == onnx.Float32 {
		return x
	}
	return b.g.Cast(x, onnx.Float32)
}

func (b builder) norm(name string, x *onnx.Value) *onnx.Value {
	defer b.g.Scope(name)()
	return b.g.LayerNormalization(x, b.w(name+".weight"), b.w(name+".bias"), float32(b.c.LayerNormEps))
}

func (b builder) embed() *onnx.Value {
	g := b.g
	x := b.l.Words(b.w("embeddings.word_embeddings.weight"))
	x = g.Add(x, b.l.Positions(b.w("embeddings.position_embeddings.weight")))
	if b.c.TypeVocabSize > 0 {
		x = g.Add(x, b.l.Types(b.w(typeTable)))
	}
	if x.Rank() == 3 { // padded: positions are [length], the others [batch, length]
		x = g.ReshapeTo(x, -1, b.c.EmbeddingSize)
	}
	x = b.drop.Apply("embeddings/dropout", b.norm("embeddings.LayerNorm", x), b.c.HiddenDropout)
	if b.c.EmbeddingSize != b.c.HiddenSize {
		x = b.full(b.linear(projection, x))
	}
	return x
}

// layer gives its output and the residual sums, before LayerNorm, of its two halves.
func (b builder) layer(name string, x *onnx.Value) (out *onnx.Value, sums []*onnx.Value) {
	g := b.g
	attended := b.attention(name, x)
	if b.wanted != nil {
		// The gradient of a Gather adds up, which float16 has no kernel for.
		attended, x = g.Gather(b.full(attended), b.wanted, 0), g.Gather(x, b.wanted, 0)
	}
	attended = b.full(b.linear(name+".attention.output.dense", attended))
	if b.c.family().attentionOutputDropout {
		attended = b.drop.Apply(name+"/attention/output/dropout", attended, b.c.HiddenDropout)
	}
	first := g.Add(x, attended)
	x = b.norm(name+".attention.output.LayerNorm", first)
	wide := b.gelu(b.linear(name+".intermediate.dense", x))
	out = b.drop.Apply(name+"/output/dropout", b.full(b.linear(name+".output.dense", wide)), b.c.HiddenDropout)
	second := g.Add(x, out)
	return b.norm(name+".output.LayerNorm", second), []*onnx.Value{first, second}
}

// gelu computes in float32, from and to what matrix products read; what it computes with is made again in the backward pass.
func (b builder) gelu(x *onnx.Value) *onnx.Value {
	if b.kind == 0 {
		return b.l.Gelu(x)
	}
	return b.half(b.g.Recompute(b.l.Gelu(b.g.Recompute(b.full(x)))))
}

// again marks an attention value to be recomputed in the backward pass, if that was chosen.
func (b builder) again(v *onnx.Value) *onnx.Value {
	if b.recompute {
		b.g.Recompute(v)
	}
	return v
}

// attention is multi-head self-attention before its output projection: [tokens, hidden] to [tokens, hidden].
func (b builder) attention(name string, x *onnx.Value) *onnx.Value {
	g := b.g
	qkv := b.linear(name+".attention.self.qkv", x)
	before := len(g.Nodes)
	out := b.attend(name, qkv)
	l, ok := b.l.(*packedLayout)
	if !ok || !b.c.FusedAttention {
		return out
	}
	g.RecomputeAll(g.Nodes[before:])
	defer g.Scope(name + "/attention")()
	return l.Fused(qkv, out)
}

// attend computes the groups of rows one after the other.
func (b builder) attend(name string, qkv *onnx.Value) *onnx.Value {
	g := b.g
	q, k, v := b.l.Heads(qkv)
	out := make([]*onnx.Value, len(q))
	for i := range q {
		where := fmt.Sprintf("%s/attention/group%d", name, i)
		if len(q) == 1 {
			where = name + "/attention"
		}
		end := g.Scope(where)
		scores := b.again(b.l.Scores(q[i], k[i], 1/math.Sqrt(float64(b.c.HeadSize()))))
		scores = b.again(g.Add(b.again(b.full(scores)), b.l.Bias(i)))
		probs := b.again(g.Softmax(scores, -1))
		end()
		if dropped := b.drop.Apply(where+"/dropout", probs, b.c.AttentionDropout); dropped != probs {
			probs = b.again(dropped)
		}
		end = g.Scope(where)
		out[i] = b.l.Values(b.again(b.half(probs)), v[i])
		end()
	}
	return b.l.Merge(out)
}
