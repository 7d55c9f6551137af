package encoder

import (
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/onnx"
)

// Shape has the limits of the micro-batches that a training graph is built for.
type Shape struct {
	Rows      int        // texts of a micro-batch
	MaxLength int        // tokens of the longest
	Groups    int        // attention groups
	Recompute *bool      // see Training.RecomputeAttention; nil means where the probabilities are large
	Layers    bool       // see Training.RecomputeLayers
	Half      onnx.DType // see Training.Half
}

// MostTokens is the most tokens of a micro-batch.
func (s Shape) MostTokens() int { return s.Rows * s.MaxLength }

// Bounds gives the largest sizes of the named dimensions of packed batches within the limits. Dropout makes its tables for them.
func (c Config) Bounds(s Shape) map[string]int64 {
	to := map[string]int64{TokensDim: int64(s.MostTokens())}
	for k := 0; k < s.Groups; k++ {
		to[groupRows(k)], to[groupLength(k)] = int64(s.Rows), int64(s.MaxLength)
		if c.window() == NoWindow {
			continue
		}
		at := c.cutFor(s.MaxLength)
		rows := (s.MaxLength + at.block - 1) / at.block
		// cutFor leaves shorter texts whole up to a length that is always less than keys + block.
		length := int64(min(s.MaxLength, at.keys+at.block))
		to[windowRows(k)], to[windowLength(k)], to[windowKeyLength(k)] = int64(s.Rows*rows), length, length
	}
	return to
}

// BuildPacked appends the inputs of a packed batch and the encoder for training, see Build. drop is nil for evaluation.
func (c Config) BuildPacked(g *onnx.Graph, w Weights, s Shape, drop *dropout.Graph, wanted *onnx.Value) *onnx.Value {
	// Frozen weights have no gradients and no moments: what is left of a step's memory is what the forward pass keeps.
	t := Training{Dropout: drop, RecomputeLayers: s.Layers, KeepProducts: c.LoRA != nil, Half: s.Half}
	if s.Recompute != nil {
		t.RecomputeAttention = *s.Recompute
	} else {
		t.RecomputeAttention = c.RecomputeAttention(s.Rows, s.MaxLength)
	}
	return c.Build(g, w, NewPacked(g, c, s.Groups), t, wanted)
}

// Lengths are the rows' numbers of tokens.
func Lengths(rows []Row) []int {
	out := make([]int, len(rows))
	for i, r := range rows {
		out[i] = len(r.IDs)
	}
	return out
}
