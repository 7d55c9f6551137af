package grad

import (
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

var elementwiseRules = map[string]rule{
	"Add": func(p *pass, n *onnx.Node, dy *onnx.Value) error {
		p.each(n, func(int) *onnx.Value { return dy })
		return nil
	},
	"Sub": func(p *pass, n *onnx.Node, dy *onnx.Value) error {
		if p.needs(n, 0) {
			p.add(n, 0, dy)
		}
		if p.needs(n, 1) {
			p.add(n, 1, p.Neg(p.unbroadcast(dy, n.Inputs[1].Shape)))
		}
		return nil
	},
	"Mul": func(p *pass, n *onnx.Node, dy *onnx.Value) error {
		p.each(n, func(i int) *onnx.Value { return p.Mul(dy, p.in(n, 1-i)) })
		return nil
	},
	"Div":        divRule,
	"Pow":        powRule,
	"Identity":   unary(func(p *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return dy }),
	"Neg":        unary(func(p *pass, _ *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Neg(dy) }),
	"Exp":        unary(func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Mul(dy, p.out(n, 0)) }),
	"Log":        unary(func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Div(dy, p.in(n, 0)) }),
	"Sqrt":       unary(sqrtRule),
	"Abs":        unary(func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value { return p.Mul(dy, p.Sign(p.in(n, 0))) }),
	"Reciprocal": unary(reciprocalRule),
	"Erf":        unary(erfRule),
	"Tanh":       unary(tanhRule),
	"Sigmoid":    unary(sigmoidRule),
	"Relu":       unary(reluRule),
	"Gelu":       unary(geluRule),
	"Clip":       unary(clipRule),
	"Cast": unary(func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
		return p.Cast(dy, n.Inputs[0].DType)
	}),
	"Where": whereRule,
}

// each adds f(i) to the gradient of every input that wants one.
func (p *pass) each(n *onnx.Node, f func(i int) *onnx.Value) {
	for i := range n.Inputs {
		if p.needs(n, i) {
			p.add(n, i, f(i))
		}
	}
}

// unary makes a rule out of the gradient of a node's first input.
func unary(f func(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value) rule {
	return func(p *pass, n *onnx.Node, dy *onnx.Value) error {
		if p.needs(n, 0) {
			p.add(n, 0, f(p, n, dy))
		}
		return nil
	}
}

// divRule: d(a/b) = da/b - (a/b)/b · db.
func divRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	b := p.in(n, 1)
	q := p.Div(dy, b)
	if p.needs(n, 0) {
		p.add(n, 0, q)
	}
	if p.needs(n, 1) {
		p.add(n, 1, p.Neg(p.Mul(q, p.out(n, 0))))
	}
	return nil
}

// powRule: d(a^b) = b·a^(b-1) da + a^b·log(a) db.
func powRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	a, b := p.in(n, 0), p.in(n, 1)
	if p.needs(n, 0) {
		p.add(n, 0, p.Mul(dy, p.Mul(b, p.Pow(a, p.Sub(b, p.Scalar(b, 1))))))
	}
	if p.needs(n, 1) {
		p.add(n, 1, p.Mul(dy, p.Mul(p.out(n, 0), p.Log(a))))
	}
	return nil
}

func sqrtRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	return p.Div(p.scale(dy, 0.5), p.out(n, 0))
}

func reciprocalRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.out(n, 0)
	return p.Neg(p.Mul(dy, p.Mul(y, y)))
}

// erfRule: erf'(x) = 2/√π · exp(-x²).
func erfRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x := p.in(n, 0)
	return p.Mul(dy, p.scale(p.Exp(p.Neg(p.Mul(x, x))), 2/math.SqrtPi))
}

func tanhRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.out(n, 0)
	return p.Mul(dy, p.Sub(p.Scalar(y, 1), p.Mul(y, y)))
}

func sigmoidRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	y := p.out(n, 0)
	return p.Mul(dy, p.Mul(y, p.Sub(p.Scalar(y, 1), y)))
}

func reluRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	zero := p.Scalar(dy, 0)
	return p.Where(p.Greater(p.in(n, 0), zero), dy, zero)
}

// geluRule: with t = x/√2, gelu'(x) = ½ (1 + erf(t)) + t·exp(-t²)/√π. These are the widest values of a model, so every
// pass over them counts: HardSigmoid is ½ e + ½ in one of them (erf never reaches its bounds), and dividing by exp(t²)
// saves a negation; where that overflows, the quotient is the zero it should be.
func geluRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x := p.in(n, 0)
	t := p.scale(x, math.Sqrt2/2)
	phi := p.HardSigmoid(p.Erf(t), 0.5, 0.5)
	bell := p.Div(p.scale(t, 1/math.SqrtPi), p.Exp(p.Mul(t, t)))
	return p.Mul(dy, p.Add(phi, bell))
}

// clipRule lets the gradient through where lo <= x <= hi, bounds included, as PyTorch's clamp does.
func clipRule(p *pass, n *onnx.Node, dy *onnx.Value) *onnx.Value {
	x, zero := p.in(n, 0), p.Scalar(dy, 0)
	if len(n.Inputs) > 1 && n.Inputs[1] != nil {
		dy = p.Where(p.GreaterOrEqual(x, p.in(n, 1)), dy, zero)
	}
	if len(n.Inputs) > 2 && n.Inputs[2] != nil {
		dy = p.Where(p.LessOrEqual(x, p.in(n, 2)), dy, zero)
	}
	return dy
}

func whereRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	cond, zero := p.in(n, 0), p.Scalar(dy, 0)
	if p.needs(n, 1) {
		p.add(n, 1, p.Where(cond, dy, zero))
	}
	if p.needs(n, 2) {
		p.add(n, 2, p.Where(cond, zero, dy))
	}
	return nil
}
