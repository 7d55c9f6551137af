package grad

import (
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

var elementwiseRules = map[string]rule{
	"Add":        addRule,
	"Sub":        subRule,
	"Mul":        mulRule,
	"Div":        divRule,
	"Pow":        powRule,
	"Identity":   unary(identityRule),
	"Neg":        unary(negRule),
	"Exp":        unary(expRule),
	"Log":        unary(logRule),
	"Sqrt":       unary(sqrtRule),
	"Abs":        unary(absRule),
	"Reciprocal": unary(reciprocalRule),
	"Erf":        unary(erfRule),
	"Tanh":       unary(tanhRule),
	"Sigmoid":    unary(sigmoidRule),
	"Relu":       unary(reluRule),
	"Gelu":       unary(geluRule),
	"Clip":       unary(clipRule),
	"Cast":       unary(castRule),
	"Where":      whereRule,
}

// kernel records that a kernel in C computes the outputs from the inputs in one pass. Kernels are for float32.
func (p *pass) kernel(op string, inputs []*onnx.Value, outputs ...*onnx.Value) {
	for _, v := range append(inputs, outputs...) {
		if v != nil && v.DType != onnx.Float32 {
			return
		}
	}
	p.Kernel(onnx.Kernel{Op: op, Inputs: inputs, Outputs: outputs})
}

// accumulateEach adds f(i) to the gradient of every input i that needs one.
func (p *pass) accumulateEach(n *onnx.Node, f func(i int) *onnx.Value) {
	for i := range n.Inputs {
		if p.needs(n, i) {
			p.accumulate(n, i, f(i))
		}
	}
}

// unary makes a rule for an operator of which only the first input has a gradient. f returns this gradient.
func unary(f func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value) rule {
	return func(p *pass, n *onnx.Node, dy *onnx.Value) error {
		if p.needs(n, 0) {
			p.accumulate(n, 0, f(p, n, dy))
		}
		return nil
	}
}

// addRule: da = dy and db = dy. accumulate sums over broadcast dimensions, here and in the other rules.
func addRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	p.accumulateEach(n, func(int) *onnx.Value { return dy })
	return nil
}

// subRule: da = dy and db = -dy. dy is summed over broadcast dimensions first, so that Neg works on the smaller tensor.
func subRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if p.needs(n, 0) {
		p.accumulate(n, 0, dy)
	}
	if p.needs(n, 1) {
		p.accumulate(n, 1, p.Neg(p.unbroadcast(dy, n.Inputs[1].Shape)))
	}
	return nil
}

// mulRule: da = dy·b and db = dy·a.
func mulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	p.accumulateEach(n, func(i int) *onnx.Value { return p.Mul(dy, p.input(n, 1-i)) })
	return nil
}

// divRule: with q = dy/b, da = q and db = -q·y.
func divRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	b := p.input(n, 1)
	q := p.Div(dy, b)
	if p.needs(n, 0) {
		p.accumulate(n, 0, q)
	}
	if p.needs(n, 1) {
		p.accumulate(n, 1, p.Neg(p.Mul(q, p.output(n, 0))))
	}
	return nil
}

// powRule: with y = a^b, da = dy·b·a^(b-1) and db = dy·y·log(a).
func powRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	a, b := p.input(n, 0), p.input(n, 1)
	if p.needs(n, 0) {
		p.accumulate(n, 0, p.Mul(dy, p.Mul(b, p.Pow(a, p.Sub(b, p.Scalar(b, 1))))))
	}
	if p.needs(n, 1) {
		p.accumulate(n, 1, p.Mul(dy, p.Mul(p.output(n, 0), p.Log(a))))
	}
	return nil
}

// identityRule: dx = dy.
func identityRule(_ *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return dy }

// negRule: dx = -dy.
func negRule(p *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Neg(dy) }

// expRule: dx = dy·y.
func expRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Mul(dy, p.output(n, 0)) }

// logRule: dx = dy/x.
func logRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Div(dy, p.input(n, 0)) }

// sqrtRule: dx = ½ dy/y.
func sqrtRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Div(p.scale(dy, 0.5), p.output(n, 0))
}

// absRule: dx = dy·sign(x).
func absRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Mul(dy, p.Sign(p.input(n, 0)))
}

// reciprocalRule: dx = -dy·y².
func reciprocalRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.output(n, 0)
	return p.Neg(p.Mul(dy, p.Mul(y, y)))
}

// erfRule: dx = dy · 2/√π · exp(-x²).
func erfRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x := p.input(n, 0)
	return p.Mul(dy, p.scale(p.Exp(p.Neg(p.Mul(x, x))), 2/math.SqrtPi))
}

// tanhRule: dx = dy·(1 - y²).
func tanhRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.output(n, 0)
	return p.Mul(dy, p.Sub(p.Scalar(y, 1), p.Mul(y, y)))
}

// sigmoidRule: dx = dy·y·(1 - y).
func sigmoidRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.output(n, 0)
	return p.Mul(dy, p.Mul(y, p.Sub(p.Scalar(y, 1), y)))
}

// reluRule: dx = dy where x > 0, else 0.
func reluRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	zero := p.Scalar(dy, 0)
	return p.Where(p.Greater(p.input(n, 0), zero), dy, zero)
}

// geluRule: with t = x/√2, dx = dy·( ½(1 + erf(t)) + t·exp(-t²)/√π ).
//
// These are the widest tensors of a model, so the rule reads and writes them as few times as it can. HardSigmoid computes
// ½·erf(t) + ½ in one operator; its limits 0 and 1 change nothing, because erf stays within ±1. Dividing by exp(t²) saves
// the negation of exp(-t²); where exp(t²) overflows to infinity, the quotient is 0, the correct limit.
func geluRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x := p.input(n, 0)
	t := p.scale(x, math.Sqrt2/2)
	cdf := p.HardSigmoid(p.Erf(t), 0.5, 0.5)
	xTimesPDF := p.Div(p.scale(t, 1/math.SqrtPi), p.Exp(p.Mul(t, t)))
	dx := p.Mul(dy, p.Add(cdf, xTimesPDF))
	p.kernel("ActivationGradient", []*onnx.Value{dy, x}, dx) // kind 0
	return dx
}

// clipRule: dx = dy where lo <= x <= hi, else 0. The bounds are included, as in PyTorch's clamp.
func clipRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x, zero := p.input(n, 0), p.Scalar(dy, 0)
	if len(n.Inputs) > 1 && n.Inputs[1] != nil {
		dy = p.Where(p.GreaterOrEqual(x, p.input(n, 1)), dy, zero)
	}
	if len(n.Inputs) > 2 && n.Inputs[2] != nil {
		dy = p.Where(p.LessOrEqual(x, p.input(n, 2)), dy, zero)
	}
	return dy
}

// castRule: dx = dy, converted to the type of x.
func castRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Cast(dy, n.Inputs[0].DType)
}

// whereRule: da = dy where the condition holds, else 0; db = dy where it does not hold, else 0.
func whereRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	cond, zero := p.input(n, 0), p.Scalar(dy, 0)
	if p.needs(n, 1) {
		p.accumulate(n, 1, p.Where(cond, dy, zero))
	}
	if p.needs(n, 2) {
		p.accumulate(n, 2, p.Where(cond, zero, dy))
	}
	return nil
}
