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
	g, name := b.g, b.layerScope(i)
	before := len(g.Nodes)
	q, k, v, qkv := b.queriesKeysValues(i, x)
	if qkv != nil {
		before = len(g.Nodes)
		q, k, v = b.l.Heads(qkv)
	}
	out := b.attend(i, q, k, v)
	l, ok := b.l.(*packedLayout)
	if !ok || !b.c.FusedAttention {
		return out
	}
	grad.RecomputeAll(g, g.Nodes[before:])
	defer g.Scope(name + "/attention")()
	return l.Fused(qkv, out)
}

// queriesKeysValues projects the tokens: into qkv alone where the layer has one product for all three.
func (b builder) queriesKeysValues(i int, x *onnx.Value) (q, k, v []*onnx.Value, qkv *onnx.Value) {
	n, bias := b.c.layer(i), b.c.Blocks.AttentionBias
	if n.queryKeyValue != "" {
		return nil, nil, nil, b.linear(n.queryKeyValue, x, bias)
	}
	q = b.l.QueryHeads(b.linear(n.query, x, bias))
	k, v = b.l.KeyValueHeads(b.linear(n.keyValue, x, bias))
	return q, k, v, nil
}

// attend computes the groups of rows one after the other.
func (b builder) attend(i int, q, k, v []*onnx.Value) *onnx.Value {
	g, name := b.g, b.layerScope(i)
	out := make([]*onnx.Value, len(q))
	for group := range q {
		where := fmt.Sprintf("%s/attention/group%d", name, group)
		if len(q) == 1 {
			where = name + "/attention"
		}
		end := g.Scope(where)
		queries, keys := b.prepare(i, group, q[group], k[group])
		scores := b.again(b.l.Scores(queries, keys, 1/math.Sqrt(float64(b.c.HeadSize()))))
		scores = b.again(g.Add(b.again(b.full(scores)), b.mask(i, group)))
		probs := b.again(g.Softmax(scores, -1))
		end()
		if dropped := b.drop.Apply(where+"/dropout", probs, b.c.AttentionDropout); dropped != probs {
			probs = b.again(dropped)
		}
		end = g.Scope(where)
		out[group] = b.l.Values(b.again(b.half(probs)), v[group])
		end()
	}
	return b.l.Merge(out)
}

// again marks an attention value to be recomputed in the backward pass, if that was chosen.
func (b builder) again(v *onnx.Value) *onnx.Value {
	if b.recompute {
		grad.Recompute(b.g, v)
	}
	return v
}

// shared is how many query heads share a key-value head.
func (c Config) shared() int64 { return c.NumAttentionHeads / c.keyValueHeads() }

// prepare normalizes and rotates queries and keys, [rows, heads, length, size]. Query heads that share keys are laid end to
// end along the length, [rows, key-value heads, shared·length, size]: one product compares them all, and no key is copied.
func (b builder) prepare(i, group int, q, k *onnx.Value) (queries, keys *onnx.Value) {
	n, x := b.c.layer(i), b.c.Blocks
	if x.QueryKeyNorm {
		q, k = b.norm(n.queryNorm, b.full(q)), b.norm(n.keyNorm, b.full(k))
	}
	if x.Rotary != nil {
		q, k = b.rotate(group, b.full(q), x.Rotary[i]), b.rotate(group, b.full(k), x.Rotary[i])
	}
	q, k = b.half(q), b.half(k)
	if b.c.shared() > 1 {
		q = b.g.ReshapeTo(q, 0, b.c.keyValueHeads(), -1, b.c.HeadSize())
	}
	return q, k
}

// NoWindow lets the tokens of a layer see all of their text.
const NoWindow = -1

// mask is what the scores of a layer and group are offset by: very negative at padding and at what a token does not see.
// It is [rows, 1, 1, length], or [rows, 1, shared·length, length] where that depends on the token.
func (b builder) mask(i, group int) *onnx.Value {
	window := int64(NoWindow)
	if b.c.Blocks.Windows != nil {
		window = b.c.Blocks.Windows[i]
	}
	padding := b.l.Bias(group)
	if window == NoWindow && !b.c.Blocks.Causal {
		return padding
	}
	key := fmt.Sprint(group, window)
	if m, ok := b.masks[key]; ok {
		return m
	}
	g := b.g
	defer g.Scope(fmt.Sprintf("mask/group%d", group))()
	at := g.Cast(b.l.RowPositions(group), onnx.Float32)
	queries := at
	if n := b.c.shared(); n > 1 { // the same places again for each head that shares the keys
		queries = g.ReshapeTo(g.Add(g.Unsqueeze(at, 0), g.Const(onnx.Filled(onnx.Float32, 0, n, 1))), -1)
	}
	ahead := g.Sub(g.Unsqueeze(at, 0), g.Unsqueeze(queries, 1)) // of key j before query i: j - i
	zero, hidden := g.Scalar(at, 0), g.Scalar(at, PaddingBias)
	m := padding
	if b.c.Blocks.Causal {
		m = g.Add(m, g.Where(g.Greater(ahead, zero), hidden, zero))
	}
	if window != NoWindow {
		m = g.Add(m, g.Where(g.Greater(g.Abs(ahead), g.Scalar(at, float64(window))), hidden, zero))
	}
	b.masks[key] = m
	return m
}
