package grad

import "rag-retrieval-go/ortrain/onnx"

var normalizationRules = map[string]rule{
	"Softmax":            unary(softmaxRule),
	"LogSoftmax":         unary(logSoftmaxRule),
	"LayerNormalization": layerNormalizationRule,
}

// softmaxRule: dx = y·dy - y·Σ(y·dy).
func softmaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.out(n, 0)
	t := p.Mul(dy, y)
	return p.Sub(t, p.Mul(y, p.ReduceSum(t, true, n.Int("axis", -1))))
}

// logSoftmaxRule: dx = dy - exp(y)·Σ dy.
func logSoftmaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Sub(dy, p.Mul(p.Exp(p.out(n, 0)), p.ReduceSum(dy, true, n.Int("axis", -1))))
}

// layerNormalizationRule, with h = (x - mean)·r normalised and e = dy·scale:
//
//	dx = r·(e - mean(e) - h·mean(e·h)),  dscale = Σ dy·h,  dbias = Σ dy.
//
// h is made again by the operator itself without scale and bias: one pass over x instead of two. Both means are
// products with the vector scale/H, which read dy and dy·h once instead of writing e and e·h first.
func layerNormalizationRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	x, scale := p.in(n, 0), p.in(n, 1)
	width := x.Shape[x.Rank()-1]
	if !width.Fixed() {
		p.Fail("LayerNormalization over a dimension without a fixed size")
		return p.Err()
	}
	h := p.LayerNormalization(p.After(x, dy), p.filled(scale, 1), p.filled(scale, 0), n.Float("epsilon", 1e-5))
	dyh := p.Mul(dy, h)
	var dscale, dbias *onnx.Value
	if p.needs(n, 1) {
		dscale = p.unbroadcast(dyh, scale.Shape)
	}
	if p.needs(n, 2) {
		dbias = p.unbroadcast(dy, scale.Shape)
	}
	p.addWanted(n, 1, dscale)
	p.addWanted(n, 2, dbias)
	if !p.needs(n, 0) {
		return nil
	}
	r := p.out(n, 2)
	if r.DType != x.DType {
		r = p.Cast(r, x.DType)
	}
	column := p.Unsqueeze(p.scale(scale, 1/float64(width.Size)), 1)
	along, mean := p.MatMul(dyh, column), p.MatMul(dy, column)
	dx := p.Sub(p.Mul(dy, scale), p.Add(p.Mul(h, along), mean))
	p.add(n, 0, p.After(p.Mul(dx, r), dscale, dbias))
	return nil
}

// filled is a constant shaped as v with every element x.
func (p *pass) filled(v *onnx.Value, x float64) *onnx.Value {
	sizes, _ := v.Shape.Sizes()
	return p.Const(onnx.Filled(v.DType, x, sizes...))
}
