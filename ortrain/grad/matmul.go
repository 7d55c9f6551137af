package grad

import "rag-retrieval-go/ortrain/onnx"

var matmulRules = map[string]rule{"MatMul": matMulRule, "FusedMatMul": fusedMatMulRule, "Gemm": gemmRule}

// matMulRule: dA = dY·Bᵀ and dB = Aᵀ·dY, summed over batch dimensions that were broadcast.
func matMulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if p.needs(n, 0) {
		p.add(n, 0, p.MatMul(dy, p.transposed(p.in(n, 1))))
	}
	if p.needs(n, 1) {
		p.add(n, 1, p.MatMul(p.transposed(p.in(n, 0)), dy))
	}
	return nil
}

// transposed swaps the last two dimensions.
func (p *pass) transposed(x *onnx.Value) *onnx.Value {
	perm := make([]int64, x.Rank())
	for i := range perm {
		perm[i] = int64(i)
	}
	k := len(perm)
	perm[k-1], perm[k-2] = perm[k-2], perm[k-1]
	return p.Transpose(x, perm...)
}

// product computes alpha · op(a) · op(b).
type product func(a, b *onnx.Value, transA, transB bool) *onnx.Value

// productGradients are the gradients of y = mul(a, b, transA, transB), made of the same kind of product.
func (p *pass) productGradients(n *onnx.Node, dy *onnx.Value, mul product) {
	transA, transB := n.Int("transA", 0) == 1, n.Int("transB", 0) == 1
	if p.needs(n, 0) {
		b := p.in(n, 1)
		if transA {
			p.add(n, 0, mul(b, dy, transB, true))
		} else {
			p.add(n, 0, mul(dy, b, false, !transB))
		}
	}
	if p.needs(n, 1) {
		a := p.in(n, 0)
		if transB {
			p.add(n, 1, mul(dy, a, true, transA))
		} else {
			p.add(n, 1, mul(a, dy, !transA, false))
		}
	}
}

func fusedMatMulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.FusedMatMul(a, b, onnx.FusedMatMulAttrs{
			Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	return nil
}

func gemmRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.Gemm(a, b, nil, onnx.GemmAttrs{Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	if p.needs(n, 2) {
		p.add(n, 2, p.scale(p.unbroadcast(dy, n.Inputs[2].Shape), float64(n.Float("beta", 1))))
	}
	return nil
}
