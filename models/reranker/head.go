package reranker

import (
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/models/hf"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// head computes scores [pairs, 1] from an encoder's hidden states [tokens, hidden]:
//
//	x = pool(states);  x = norm(activation(dense(x)));  score = out(x)
//	late:  x = pool(activation(dense(states)));  score = out(x)
//
// The dense layer and the norm are optional. See heads for the architectures, and pooling for pool.
type head struct {
	class           string // transformers' name of the whole model
	pool            pooling
	pad             *int64 // id of the padding token, which lastToken skips; nil if the config names none
	dense, norm     string // names of the layers; "" if there is none
	denseBias       bool
	out             string
	outBias         bool
	pooler          bool // the dense layer is the encoder's own pooler
	late            bool // the dense layer is applied to each token's state, before pooling
	dropsBefore     bool // there is dropout before the dense layer too
	dropsNothing    bool // there is no dropout
	activation      activation
	denseDeviation  float64 // standard deviation of the numbers that a new dense weight starts with
	outDeviation    float64 // standard deviation for the last layer
	cutoffDeviation float64 // both distributions are truncated at so many deviations; 0: they are not
	// tokens are set for the head of a language model, which has no layers. The score is the logit of the first token, minus the
	// logit of the second if there are two.
	tokens []int64
	untied bool // the language model's head is a tensor of its own, see lmHeadRows; otherwise it is the word embeddings
}

// modules returns the sentence-transformers modules that a folder with this head has.
func (h head) modules() []string {
	if h.tokens != nil {
		return []string{"Transformer", logitScoreModule}
	}
	return []string{"Transformer"}
}

// params returns the head's trainable tensors.
func (h head) params(c encoder.Config) (out []flat.Param) {
	if h.untied {
		out = append(out, flat.Param{Name: lmHeadRows, Dims: []int64{int64(len(h.tokens)), c.HiddenSize}, Decay: true, Frozen: c.LoRA != nil})
	}
	if h.dense != "" {
		out = append(out, encoder.Linear(h.dense, c.HiddenSize, c.HiddenSize, h.denseBias)...)
	}
	if h.norm != "" {
		out = append(out, c.Norm(h.norm, c.HiddenSize)...)
	}
	if h.out != "" {
		out = append(out, encoder.Linear(h.out, 1, c.HiddenSize, h.outBias)...)
	}
	return out
}

// has reports whether a parameter belongs to the head.
func (h head) has(param string) bool {
	layer := param[:max(0, strings.LastIndex(param, "."))]
	return layer != "" && (layer == h.dense || layer == h.norm || layer == h.out)
}

// start fills a parameter that the base model lacks, as transformers does: weights are normally distributed, biases are 0, and norms
// start as the identity.
func (h head) start(p flat.Param, values []float32, seed uint64) {
	layer, weight := strings.CutSuffix(p.Name, ".weight")
	switch {
	case !weight:
		clear(values)
	case layer == h.norm:
		for i := range values {
			values[i] = 1
		}
	case layer == h.dense:
		hf.InitNormal(values, seed, p.Name, h.denseDeviation, h.cutoffDeviation)
	default:
		hf.InitNormal(values, seed, p.Name, h.outDeviation, h.cutoffDeviation)
	}
}

// apply returns the scores [pairs, 1] of pooled states [pairs, hidden].
func (h head) apply(g *onnx.Graph, w encoder.Weights, c encoder.Config, x *onnx.Value, drop *dropout.Graph) *onnx.Value {
	if h.untied {
		return h.logit(g, w(lmHeadRows), x)
	}
	if h.tokens != nil {
		return h.logit(g, g.Gather(w(c.WordTable()), g.IntVector(h.tokens...), 0), x)
	}
	if h.dropsBefore {
		x = drop.Apply("classifier/dropout", x, c.HeadDropout())
	}
	if h.dense != "" && !h.late {
		x = h.applyDense(g, w, x)
	}
	if h.norm != "" {
		x = c.LayerNorm(g, w, h.norm, x)
	}
	if !h.dropsNothing {
		x = drop.Apply("classifier/out/dropout", x, c.HeadDropout())
	}
	defer g.Scope(h.out)()
	return encoder.ApplyLinear(g, w, h.out, x, h.outBias)
}

// beforePooling is what a late head makes of the tokens' states, and the states for other heads.
func (h head) beforePooling(g *onnx.Graph, w encoder.Weights, states *onnx.Value) *onnx.Value {
	if h.late {
		return h.applyDense(g, w, states)
	}
	return states
}

// applyDense applies the dense layer and its activation to states [n, hidden].
func (h head) applyDense(g *onnx.Graph, w encoder.Weights, x *onnx.Value) *onnx.Value {
	end := g.Scope(h.dense)
	x = encoder.ApplyLinear(g, w, h.dense, x, h.denseBias)
	end()
	return h.activation(g, x)
}

// logit returns the scores of a language model's head. Of the whole vocabulary it multiplies only rows [tokens, hidden], those of
// h.tokens.
func (h head) logit(g *onnx.Graph, rows, x *onnx.Value) *onnx.Value {
	defer g.Scope("lm_head")()
	logits := g.Gemm(x, rows, nil, onnx.GemmAttrs{TransB: true})
	if len(h.tokens) == 1 {
		return logits
	}
	parts := g.Split(logits, 1, 1, 1)
	return g.Sub(parts[0], parts[1])
}

// logits returns the scores [pairs] of a packed batch. states are those of all its tokens, or of the wanted ones only.
func (m *Model) logits(g *onnx.Graph, w encoder.Weights, states, places *onnx.Value, drop *dropout.Graph) *onnx.Value {
	states = m.head.beforePooling(g, w, states)
	return g.Squeeze(m.head.apply(g, w, m.Encoder, m.head.pool.apply(g, states, places), drop), 1)
}

// exportGraph builds the padded graph for other runtimes. It has the inputs input_ids, attention_mask and token_type_ids
// [batch, sequence] and the output logits [batch, 1].
func (m *Model) exportGraph(g *onnx.Graph, w encoder.Weights) {
	batch := encoder.NewPadded(g, m.Encoder)
	states := m.Encoder.Build(g, w, batch, encoder.Training{}, nil)
	states = m.head.beforePooling(g, w, states)
	g.Output("logits", m.head.apply(g, w, m.Encoder, m.head.padded(g, batch, m.Encoder, states), nil))
}
