package encoder

import (
	"fmt"
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// turn is by how much the positions of a group turn, each [length, head size / 2].
type turn struct{ cos, sin *onnx.Value }

// rotate turns each pair (x[i], x[i + size/2]) of a head by its position times base^(-2i/size), so that the product of a
// query and a key depends on how far they are apart. x is [rows, heads, length, size].
// Source: Su et al. 2021 (RoFormer), in the order of halves that transformers has.
func (b builder) rotate(group int, x *onnx.Value, base float64) *onnx.Value {
	g, half := b.g, b.c.HeadSize()/2
	t := b.turn(group, base)
	parts := g.Split(x, 3, half, half)
	first := g.Sub(g.Mul(parts[0], t.cos), g.Mul(parts[1], t.sin))
	second := g.Add(g.Mul(parts[1], t.cos), g.Mul(parts[0], t.sin))
	return g.Concat(3, first, second)
}

// turn makes the turns of a group once for each base.
func (b builder) turn(group int, base float64) turn {
	key := fmt.Sprint(group, base)
	if t, ok := b.turns[key]; ok {
		return t
	}
	defer b.g.Scope(fmt.Sprintf("rotary%d", group))()
	half := b.c.HeadSize() / 2
	speed := make([]float32, half)
	for i := range speed {
		speed[i] = float32(1 / math.Pow(base, float64(2*i)/float64(2*half)))
	}
	g := b.g
	at := g.Unsqueeze(g.Cast(b.l.RowPositions(group), onnx.Float32), 1)
	angle := g.Mul(at, g.Const(onnx.Floats(speed, 1, half)))
	t := turn{g.Cos(angle), g.Sin(angle)}
	b.turns[key] = t
	return t
}
