package grad

import "rag-retrieval-go/ortrain/onnx"

var normalizationRules = map[string]rule{
	"Softmax":            unary(softmaxRule),
	"LogSoftmax":         unary(logSoftmaxRule),
	"LayerNormalization": layerNormalizationRule,
}

// softmaxRule: dx = y·dy - y·Σ(y·dy).
func softmaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.output(n, 0)
	t := p.Mul(dy, y)
	axis := n.Int("axis", -1)
	dx := p.Sub(t, p.Mul(y, p.ReduceSum(t, true, axis)))
	if axis == -1 || axis == int64(y.Rank()-1) {
		p.kernel("SoftmaxGradient", []*onnx.Value{dy, y}, dx)
	}
	return dx
}

// logSoftmaxRule: dx = dy - exp(y)·Σ dy.
func logSoftmaxRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Sub(dy, p.Mul(p.Exp(p.output(n, 0)), p.ReduceSum(dy, true, n.Int("axis", -1))))
}

// layerNormalizationRule: with h = (x - mean)·r, where r is the inverse standard deviation, and e = dy·scale,
//
//	dx = r·(e - mean(e) - h·mean(e·h)),  dscale = Σ dy·h,  dbias = Σ dy.
//
// LayerNormalization with scale 1 and bias 0 recomputes h, in one pass over x instead of two. Both means are matrix products
// with the column scale/width: mean(e) = dy·column and mean(e·h) = (dy·h)·column. They read dy and dy·h once and need not
// write e and e·h to memory first.
func layerNormalizationRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	x, scale := p.input(n, 0), p.input(n, 1)
	width := x.Shape[x.Rank()-1]
	if !width.Fixed() {
		p.Fail("the gradient of LayerNormalization needs a fixed size of the last dimension, not %v", width)
		return p.Err()
	}
	mean, r := p.output(n, 1), p.output(n, 2)
	h := p.LayerNormalization(p.After(x, dy), p.constantLike(scale, 1), p.constantLike(scale, 0), n.Float("epsilon", 1e-5))
	dyh := p.Mul(dy, h)
	var dscale, dbias *onnx.Value
	if p.needs(n, 1) {
		dscale = p.unbroadcast(dyh, scale.Shape)
	}
	if p.needs(n, 2) {
		dbias = p.unbroadcast(dy, scale.Shape)
	}
	p.accumulate(n, 1, dscale)
	p.accumulate(n, 2, dbias)
	if !p.needs(n, 0) {
		return nil
	}
	if r.DType != x.DType {
		r = p.Cast(r, x.DType)
	}
	column := p.Unsqueeze(p.scale(scale, 1/float64(width.Size)), 1)
	meanEH, meanE := p.MatMul(dyh, column), p.MatMul(dy, column)
	dx := p.Sub(p.Mul(dy, scale), p.Add(p.Mul(h, meanEH), meanE))
	dx = p.Mul(dx, r)
	p.kernel("LayerNormGradient", []*onnx.Value{dy, x, scale, mean, r}, dx, dscale, dbias)
	p.accumulate(n, 0, p.After(dx, dscale, dbias))
	return nil
}

// constantLike returns a constant with the shape and type of v, whose dimensions are fixed, and all elements x.
func (p *pass) constantLike(v *onnx.Value, x float64) *onnx.Value {
	sizes, _ := v.Shape.Sizes()
	return p.Const(onnx.Filled(v.DType, x, sizes...))
}
