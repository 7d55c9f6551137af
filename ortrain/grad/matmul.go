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

// productGradients are the gradients of y = mul(a, b, transA, transB), made of the same kind of product; nil where
// they are not wanted.
func (p *pass) productGradients(n *onnx.Node, dy *onnx.Value, mul product) (da, db *onnx.Value) {
	transA, transB := n.Int("transA", 0) == 1, n.Int("transB", 0) == 1
	if p.needs(n, 1) {
		a := p.in(n, 0)
		if transB {
			db = mul(dy, a, true, transA)
		} else {
			db = mul(a, dy, !transA, false)
		}
	}
	if p.needs(n, 0) {
		b := p.in(n, 1)
		if transA {
			da = mul(b, dy, transB, true)
		} else {
			da = mul(dy, b, false, !transB)
		}
	}
	return da, db
}

func fusedMatMulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	da, db := p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.FusedMatMul(a, b, onnx.FusedMatMulAttrs{
			Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	p.addWanted(n, 0, da)
	p.addWanted(n, 1, db)
	return nil
}

// gemmRule computes the gradients of the weight and the bias before anything that the input's gradient leads to:
// they are outputs of the graph, which would otherwise run last and keep dy and the input alive until then.
func gemmRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	da, db := p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.Gemm(a, b, nil, onnx.GemmAttrs{Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	var dc *onnx.Value
	if p.needs(n, 2) {
		dc = p.scale(p.unbroadcast(dy, n.Inputs[2].Shape), float64(n.Float("beta", 1)))
	}
	if da != nil {
		p.add(n, 0, p.After(da, db, dc))
	}
	p.addWanted(n, 1, db)
	p.addWanted(n, 2, dc)
	return nil
}

// addWanted contributes d, unless it is nil.
func (p *pass) addWanted(n *onnx.Node, i int, d *onnx.Value) {
	if d != nil {
		p.add(n, i, d)
	}
}
