package reranker

import (
	"strings"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
)

// head is an architecture's way from the first token's hidden state to a score: a dense layer with an activation, then
// one number. Source: transformers' ...ForSequenceClassification.
type head struct {
	dense, out  string // the layers' names
	pooler      bool   // the dense layer is the encoder's own pooler
	dropsBefore bool   // dropout stands before the dense layer too
	activation  func(g *onnx.Graph, l encoder.Layout, x *onnx.Value) *onnx.Value
}

func tanh(g *onnx.Graph, _ encoder.Layout, x *onnx.Value) *onnx.Value { return g.Tanh(x) }
func relu(g *onnx.Graph, _ encoder.Layout, x *onnx.Value) *onnx.Value { return g.Relu(x) }
func gelu(_ *onnx.Graph, l encoder.Layout, x *onnx.Value) *onnx.Value { return l.Gelu(x) }

func headOf(modelType string) head {
	switch modelType {
	case "roberta", "xlm-roberta", "camembert":
		return head{dense: "classifier.dense", out: "classifier.out_proj", dropsBefore: true, activation: tanh}
	case "electra":
		return head{dense: "classifier.dense", out: "classifier.out_proj", dropsBefore: true, activation: gelu}
	case "distilbert":
		return head{dense: "pre_classifier", out: "classifier", activation: relu}
	}
	return head{dense: "pooler.dense", out: "classifier", pooler: true, activation: tanh}
}

func (h head) params(width int64) []flat.Param {
	return append(encoder.Linear(h.dense, width, width), encoder.Linear(h.out, 1, width)...)
}

// has says whether a parameter belongs to the head.
func (h head) has(param string) bool {
	return strings.HasPrefix(param, h.dense+".") || strings.HasPrefix(param, h.out+".")
}

// apply gives the scores [pairs, 1] of the first tokens' states [pairs, hidden].
func (h head) apply(g *onnx.Graph, w encoder.Weights, l encoder.Layout, x *onnx.Value, drop *dropout.Graph, rate float64) *onnx.Value {
	linear := func(name string, x *onnx.Value) *onnx.Value {
		defer g.Scope(name)()
		return g.Gemm(x, w(name+".weight"), w(name+".bias"), onnx.GemmAttrs{TransB: true})
	}
	if h.dropsBefore {
		x = drop.Apply("classifier/dropout", x, rate)
	}
	x = h.activation(g, l, linear(h.dense, x))
	return linear(h.out, drop.Apply("classifier/out/dropout", x, rate))
}

const (
	pairRows   = "pairs"
	firstInput = "pairs.first" // each pair's first token
)

// first is the index of each packed pair's first token, [pairs], whose state the head reads.
func first(g *onnx.Graph) *onnx.Value { return g.Input(firstInput, onnx.Int64, onnx.N(pairRows)) }

// logits are the scores [pairs] of the first tokens' states.
func (m *Model) logits(g *onnx.Graph, w encoder.Weights, l encoder.Layout, states *onnx.Value, drop *dropout.Graph) *onnx.Value {
	return g.Squeeze(m.head.apply(g, w, l, states, drop, m.Encoder.HeadDropout()), 1)
}

// pack lays pairs out.
func (m *Model) pack(rows []encoder.Row, groups int) *ortrain.Batch {
	b := ortrain.NewBatch()
	m.bindFirst(b, m.Encoder.Pack(b, rows, groups))
	return b
}

// bindFirst adds where the pairs start.
func (m *Model) bindFirst(b *ortrain.Batch, starts []int64) {
	n := int64(len(starts))
	b.Int(firstInput, starts, n)
	b.Dims[pairRows] = n
}

// exportGraph is the padded graph that other runtimes read: input_ids, attention_mask and token_type_ids
// [batch, sequence] to logits [batch, 1].
func (m *Model) exportGraph(g *onnx.Graph, w encoder.Weights) {
	g.Opset = encoder.ExportOpset
	l, _ := encoder.NewPaddedLayout(g, m.Encoder)
	hidden := encoder.PaddedHidden(g, l, m.Encoder, m.Encoder.Build(g, w, l, encoder.Training{}, nil))
	first := g.Gather(hidden, g.IntScalar(0), 1)
	g.Output("logits", m.head.apply(g, w, l, first, nil, 0))
}
