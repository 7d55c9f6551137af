package embedding

import (
	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/onnx"
)

// poolingInput is the input that selects or weighs the tokens of each text's vector.
const poolingInput = "pooling"

// pooling adds poolingInput: the index of one token for each text, [texts], or for the mean the weights [texts, tokens].
func (c Config) pooling(g *onnx.Graph) *onnx.Value {
	n := onnx.NamedDim(textRows)
	if c.Pooling == Mean {
		return g.Input(poolingInput, onnx.Float32, n, onnx.NamedDim(encoder.TokensDim))
	}
	return g.Input(poolingInput, onnx.Int64, n)
}

// wanted returns the tokens whose states pool reads, for encoder.Config.Build; nil for all tokens.
func (c Config) wanted(pooling *onnx.Value) *onnx.Value {
	if c.Pooling == Mean {
		return nil
	}
	return pooling
}

// pool makes the vectors [texts, width] of a packed batch from the states of the wanted tokens. For the mean this is a product
// with the weights, which is cheap compared to the encoder.
func (c Config) pool(g *onnx.Graph, w encoder.Weights, states, pooling *onnx.Value) *onnx.Value {
	if c.Pooling == Mean {
		states = g.Gemm(pooling, states, nil, onnx.GemmAttrs{})
	}
	return c.finish(g, w, states)
}

// finish applies the layers after the pooling.
func (c Config) finish(g *onnx.Graph, w encoder.Weights, x *onnx.Value) *onnx.Value {
	for _, d := range c.Dense {
		x = d.apply(g, w, x)
	}
	if !c.Normalize {
		return x
	}
	return normalized(g, x)
}

// bindPooling fills poolingInput. Text i begins at token starts[i] and has lengths[i] tokens.
func (c Config) bindPooling(b *ortrain.Batch, starts []int64, lengths []int) {
	n, tokens := int64(len(starts)), b.Dims[encoder.TokensDim]
	b.Dims[textRows] = n
	switch c.Pooling {
	case CLS:
		b.Int(poolingInput, starts, n)
		return
	case Last:
		last := make([]int64, n)
		for i, start := range starts {
			last[i] = start + int64(lengths[i]) - 1
		}
		b.Int(poolingInput, last, n)
		return
	}
	b.Large = func(b *ortrain.Batch) { b.Float(poolingInput, encoder.MeanWeights(starts, lengths, tokens), n, tokens) }
}

// normalized divides each vector by its length, as torch.nn.functional.normalize does.
func normalized(g *onnx.Graph, x *onnx.Value) *onnx.Value {
	defer g.Scope("normalize")()
	length := g.Sqrt(g.ReduceSum(g.Mul(x, x), true, -1))
	return g.Div(x, g.Clip(length, g.Scalar(x, 1e-12), nil))
}

// exportGraph builds the padded graph for other runtimes. Inputs are input_ids, attention_mask and token_type_ids
// [batch, sequence]; outputs are token_embeddings [batch, sequence, hidden] and sentence_embedding [batch, width].
func (m *Model) exportGraph(g *onnx.Graph, w encoder.Weights) {
	batch := encoder.NewPadded(g, m.Encoder)
	states := m.Encoder.Build(g, w, batch, encoder.Training{}, nil)
	hidden := batch.Unpack(states, m.Encoder.HiddenSize)
	var x *onnx.Value
	switch m.Config.Pooling {
	case CLS:
		x = g.Gather(hidden, g.IntScalar(0), 1)
	case Last:
		x = encoder.PaddedLast(g, states, batch.Mask)
	default:
		x = encoder.PaddedMean(g, hidden, batch.Mask)
	}
	g.Output("token_embeddings", hidden)
	g.Output("sentence_embedding", m.Config.finish(g, w, x))
}
