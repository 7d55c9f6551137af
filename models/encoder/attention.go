package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// attention is multi-head self-attention before its output projection, [tokens, hidden] to [tokens, heads·size]:
//
//	softmax(q·kᵀ/√size + mask)·v
//
// Source: Vaswani et al. 2017; with fewer key-value heads, Ainslie et al. 2023.
func (b builder) attention(i int, x *onnx.Value) *onnx.Value {
	g, groups := b.g, b.l.attention(b.c.windowOf(i))
	if !b.c.jointProjection() {
		query, key, value := b.project(i, x)
		return b.attend(i, groups, groups.queries(query), groups.keys(key), groups.keys(value))
	}
	qkv := b.linear(b.c.layer(i).queryKeyValue, x, b.c.Blocks.QueryKeyValueBias)
	before := len(g.Nodes)
	q, k, v := groups.all(qkv)
	out := b.attend(i, groups, q, k, v)
	nodes := g.Nodes[before:]
	defer g.Scope(b.layerScope(i) + "/attention")()
	fused := groups.fused(qkv, out)
	if fused != out {
		grad.RecomputeAll(g, nodes)
	}
	return fused
}

// project gives queries [tokens, heads·size], and keys and values [tokens, key-value heads·size], as matrix products read
// them: queries and keys normalized and rotated.
func (b builder) project(i int, x *onnx.Value) (query, key, value *onnx.Value) {
	g, n, bias := b.g, b.c.layer(i), b.c.Blocks.QueryKeyValueBias
	queries, keys := b.c.NumAttentionHeads*b.c.HeadSize(), b.c.keyValueHeads()*b.c.HeadSize()
	if n.queryKeyValue != "" {
		parts := g.Split(b.linear(n.queryKeyValue, x, bias), 1, queries, keys, keys)
		query, key, value = parts[0], parts[1], parts[2]
	} else {
		query = b.linear(n.query, x, bias)
		parts := g.Split(b.linear(n.keyValue, x, bias), 1, keys, keys)
		key, value = parts[0], parts[1]
	}
	defer g.Scope(b.layerScope(i) + "/attention")()
	return b.place(i, query, n.queryNorm), b.place(i, key, n.keyNorm), value
}

// place normalizes and rotates the heads of x, [tokens, heads·size]; norm names the norm.
func (b builder) place(i int, x *onnx.Value, norm string) *onnx.Value {
	width, blocks := x.Shape[1].Size, b.c.Blocks
	if !blocks.QueryKeyNorm && blocks.Rotary == nil {
		return x
	}
	y := b.g.ReshapeTo(b.full(x), -1, width/b.c.HeadSize(), b.c.HeadSize())
	if blocks.QueryKeyNorm {
		y = b.norm(norm, y)
	}
	if blocks.Rotary != nil {
		y = b.rotate(y, blocks.Rotary[i])
	}
	return b.half(b.g.ReshapeTo(y, -1, width))
}

// attend computes the groups one after the other. Query heads that share keys are laid end to end along the length,
// [rows, key-value heads, shared·length, size]: one product compares them all, and no key is copied.
func (b builder) attend(i int, in attentionGroups, q, k, v []*onnx.Value) *onnx.Value {
	g, name := b.g, b.layerScope(i)
	masks := b.masks[b.c.windowOf(i)]
	out := make([]*onnx.Value, len(q))
	for group := range q {
		where := fmt.Sprintf("%s/attention/group%d", name, group)
		if len(q) == 1 {
			where = name + "/attention"
		}
		queries := q[group]
		if b.c.shared() > 1 {
			end := g.Scope(where)
			queries = g.ReshapeTo(queries, 0, b.c.keyValueHeads(), -1, b.c.HeadSize())
			end()
		}
		out[group] = b.attendGroup(where, queries, k[group], v[group], masks[group].bias)
		if seeing := masks[group].seeing; seeing != nil {
			end := g.Scope(where)
			out[group] = g.Mul(out[group], b.half(seeing))
			end()
		}
	}
	return in.merge(out)
}

// attendGroup is dropout(softmax(q·kᵀ/√size + bias))·v, named where. A kernel computes it in one pass: its inputs are q, k, v, the bias, and
// the factors of dropout, which are inputs of the graph.
func (b builder) attendGroup(where string, q, k, v, bias *onnx.Value) *onnx.Value {
	g, scale := b.g, float32(1/math.Sqrt(b.c.scoreWidth()))
	c := &grad.Composite{Op: "Attention", Inputs: []*onnx.Value{q, k, v, bias}, Attrs: onnx.Attrs{"alpha": scale}}
	return grad.Fuse(g, c, func(c *grad.Composite) {
		end := g.Scope(where)
		scores := b.recomputed(g.AllowBF16(g.FusedMatMul(q, k, onnx.FusedMatMulAttrs{Alpha: scale, TransB: true})))
		scores = b.recomputed(g.Add(b.recomputed(b.full(scores)), bias))
		probs := b.recomputed(g.Softmax(scores, -1))
		end()
		inputs := len(g.Inputs)
		if dropped := b.drop.Apply(where+"/dropout", probs, b.c.AttentionDropout); dropped != probs {
			probs = b.recomputed(dropped)
		}
		c.Inputs = append(c.Inputs, g.Inputs[inputs:]...)
		defer g.Scope(where)()
		c.Value = g.AllowBF16(g.FusedMatMul(b.recomputed(b.half(probs)), v, onnx.FusedMatMulAttrs{}))
	})
}

// recomputed marks a value of attention to be computed again in the backward pass, if that was chosen.
func (b builder) recomputed(v *onnx.Value) *onnx.Value {
	if b.recompute {
		grad.Recompute(b.g, v)
	}
	return v
}

// shared is how many query heads share a key-value head.
func (c Config) shared() int64 { return c.NumAttentionHeads / c.keyValueHeads() }

// windowOf is how far the tokens of layer i see to either side, or NoWindow.
func (c Config) windowOf(i int) int64 {
	if c.Blocks.Windows == nil {
		return NoWindow
	}
	return c.Blocks.Windows[i]
}

// attentionMask says what the queries of a group attend to.
type attentionMask struct {
	// bias is added to the scores: very negative at padding and at what a token does not see. It is [rows, 1, 1, keys], or
	// [rows, 1, shared·queries, keys] where that depends on the token.
	bias *onnx.Value
	// seeing is 1 for queries that see a key, and 0 for those that see none, [rows, 1, shared·queries, 1]; nil where every token
	// sees one. Softmax would give a query that sees none the mean of all values; transformers gives it zeros.
	seeing *onnx.Value
}

// attentionMasks makes the masks of all groups, for layers with a window or NoWindow.
func (b builder) attentionMasks(window int64) []attentionMask {
	groups := b.l.attention(window).groups()
	masks := make([]attentionMask, len(groups))
	for k, x := range groups {
		masks[k].bias = x.padding
		if window == NoWindow && !b.c.Blocks.Causal {
			continue
		}
		end := b.g.Scope(fmt.Sprintf("mask/group%d", k))
		masks[k] = b.maskByPlace(x, window)
		end()
	}
	return masks
}

func (b builder) maskByPlace(x group, window int64) (m attentionMask) {
	g := b.g
	queries, keys := g.Cast(x.queryPlaces, onnx.Float32), g.Cast(x.keyPlaces, onnx.Float32)
	if n := b.c.shared(); n > 1 { // the same places again for each head that shares the keys
		queries = g.ReshapeTo(g.Add(g.Unsqueeze(queries, 1), g.Const(onnx.Filled(onnx.Float32, 0, 1, n, 1))), 0, -1)
	}
	queries, keys = g.Unsqueeze(queries, 1, 3), g.Unsqueeze(keys, 1, 2)
	// A long text makes these tensors large. Where holds two more of that size while it runs, beside the distances that it would need.
	hide := func(hidden *onnx.Value) {
		m.bias = g.Add(g.Mul(g.Cast(hidden, onnx.Float32), g.Scalar(keys, PaddingBias)), m.bias)
	}
	m.bias = x.padding
	if b.c.Blocks.Causal {
		hide(g.Greater(keys, queries))
	}
	if window == NoWindow {
		return m
	}
	hide(g.Greater(g.Abs(g.Sub(keys, queries)), g.Scalar(keys, float64(window))))
	visible := g.Cast(g.Greater(m.bias, g.Scalar(keys, PaddingBias/2)), onnx.Float32)
	m.seeing = g.Clip(g.ReduceSum(visible, true, 3), nil, g.Scalar(keys, 1))
	return m
}
