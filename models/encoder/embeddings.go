package encoder

import "rag-retrieval-go/ortrain/onnx"

// embed computes the first layer's input, [tokens, hidden]: the sum of each token's word, position and type embeddings, then a
// norm and dropout where the architecture has them.
func (b builder) embed() *onnx.Value {
	g, n := b.g, b.c.architecture().names()
	x := b.l.embed(byID, b.w(n.words))
	if scale := b.c.Blocks.EmbeddingScale; scale != 0 {
		x = g.Mul(x, g.Scalar(x, scale))
	}
	if b.c.Blocks.Rotary == nil {
		x = g.Add(x, b.l.embed(byPosition, b.w(n.positions)))
	}
	if b.c.TypeVocabSize > 0 {
		x = g.Add(x, b.l.embed(byType, b.w(n.types)))
	}
	if x.Rank() == 3 { // padded: positions are [length], the others [batch, length]
		x = g.ReshapeTo(x, -1, b.c.EmbeddingSize)
	}
	if b.c.Blocks.EmbeddingNorm {
		x = b.drop.Apply("embeddings/dropout", b.norm(n.embeddingNorm, x), b.c.HiddenDropout)
	}
	if b.c.EmbeddingSize != b.c.HiddenSize {
		x = b.full(b.linear(projection, x, true))
	}
	return x
}
