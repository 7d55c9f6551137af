package grad

import "rag-retrieval-go/ortrain/onnx"

var matmulRules = map[string]rule{"MatMul": matMulRule, "FusedMatMul": fusedMatMulRule, "Gemm": gemmRule}

// matMulRule: dA = dY·Bᵀ and dB = Aᵀ·dY, summed over batch dimensions that were broadcast.
func matMulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	if p.needs(n, 0) {
		p.accumulate(n, 0, p.MatMul(dy, p.transposed(p.input(n, 1))))
	}
	if p.needs(n, 1) {
		p.accumulate(n, 1, p.MatMul(p.transposed(p.input(n, 0)), dy))
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

// product computes alpha · op(a) · op(b), where op transposes its argument or leaves it as it is.
type product func(a, b *onnx.Value, transA, transB bool) *onnx.Value

// productGradients returns the gradients of y = mul(a, b, transA, transB), or nil for an input that needs none. The
// transposes are flags of further products, so that no transpose is copied:
//
//	y = A·B      da = dy·Bᵀ      db = Aᵀ·dy
//	y = A·Bᵀ     da = dy·B       db = dyᵀ·A
//	y = Aᵀ·B     da = B·dyᵀ      db = A·dy
//	y = Aᵀ·Bᵀ    da = Bᵀ·dyᵀ     db = dyᵀ·Aᵀ
func (p *pass) productGradients(n *onnx.Node, dy *onnx.Value, mul product) (da, db *onnx.Value) {
	transA, transB := n.Int("transA", 0) == 1, n.Int("transB", 0) == 1
	if n.AllowsBF16 {
		exact := mul
		mul = func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
			return p.AllowBF16(exact(a, b, transA, transB))
		}
	}
	if p.needs(n, 1) {
		a := p.input(n, 0)
		if transB {
			db = mul(dy, a, true, transA)
		} else {
			db = mul(a, dy, !transA, false)
		}
	}
	if p.needs(n, 0) {
		b := p.input(n, 1)
		if transA {
			da = mul(b, dy, transB, true)
		} else {
			da = mul(dy, b, false, !transB)
		}
	}
	return da, db
}

// fusedMatMulRule: the gradients of alpha · op(A) · op(B), see productGradients.
func fusedMatMulRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	da, db := p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.FusedMatMul(a, b, onnx.FusedMatMulAttrs{
			Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	p.accumulate(n, 0, da)
	p.accumulate(n, 1, db)
	return nil
}

// gemmRule: the gradients of alpha · op(A) · op(B), see productGradients, and dC = beta · dY summed to the shape of C.
//
// The gradients of the weight B and the bias C are outputs of the graph. ONNX Runtime would compute them last and keep dy
// and A in memory until then. Therefore the gradient of A waits for them.
func gemmRule(p *pass, n *onnx.Node, dy *onnx.Value) error {
	da, db := p.productGradients(n, dy, func(a, b *onnx.Value, transA, transB bool) *onnx.Value {
		return p.Gemm(a, b, nil, onnx.GemmAttrs{Alpha: n.Float("alpha", 1), TransA: transA, TransB: transB})
	})
	var dc *onnx.Value
	if p.needs(n, 2) {
		dc = p.scale(p.unbroadcast(dy, n.Inputs[2].Shape), float64(n.Float("beta", 1)))
	}
	row := len(n.Inputs) < 3 || n.Inputs[2] == nil || n.Inputs[2].Rank() == 1 // the third input is a bias, whose gradient is a sum
	if n.AllowsBF16 && row && db != nil && n.Int("transA", 0) == 0 && n.Float("alpha", 1) == 1 && n.Float("beta", 1) == 1 {
		p.Kernel(onnx.Kernel{
			Op: "LinearGradient", Inputs: []*onnx.Value{dy, p.input(n, 0), p.input(n, 1)}, Outputs: []*onnx.Value{da, db, dc},
			Attrs: onnx.Attrs{"transB": n.Int("transB", 0)},
		})
	}
	if da != nil {
		p.accumulate(n, 0, p.After(da, db, dc))
	}
	p.accumulate(n, 1, db)
	p.accumulate(n, 2, dc)
	return nil
}
