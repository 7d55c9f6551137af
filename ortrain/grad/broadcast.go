package grad

import "rag-retrieval-go/ortrain/onnx"

// unbroadcast is the gradient of broadcasting. It sums d over the dimensions that broadcasting added to shape or widened
// from 1, so that the result has that shape.
func (p *pass) unbroadcast(d *onnx.Value, shape onnx.Shape) *onnx.Value {
	if d.Shape.Equal(shape) || len(shape) > d.Rank() {
		return d
	}
	extra := d.Rank() - len(shape)
	var added, widened []int64
	for i := range d.Shape {
		switch {
		case i < extra:
			added = append(added, int64(i))
		case shape[i-extra] == onnx.FixedDim(1) && d.Shape[i] != onnx.FixedDim(1):
			widened = append(widened, int64(i-extra))
		}
	}
	switch {
	case d.Rank() == 2 && len(added) == 1 && len(shape) == 1 && shape[0] == d.Shape[1] && d.Shape[1].Fixed():
		return p.columnSums(d)
	case len(added) > 0:
		d = p.ReduceSum(d, false, added...)
	}
	if len(widened) > 0 {
		d = p.ReduceSum(d, true, widened...)
	}
	return d
}

// columnSums sums a matrix, [rows, columns], over its rows and returns [columns]. It multiplies by a row of ones, which is
// two to four times faster than ReduceSum (ONNX Runtime 1.32, CPU).
func (p *pass) columnSums(d *onnx.Value) *onnx.Value {
	key := d.Shape[0].String() + d.DType.String()
	row := p.onesRows[key]
	if row == nil {
		row = p.ConstantOfShape(p.Concat(0, p.IntVector(1), p.dimSize(d, 0)), onnx.Filled(d.DType, 1, 1))
		p.onesRows[key] = row
	}
	return p.ReshapeTo(p.Gemm(row, d, nil, onnx.GemmAttrs{}), d.Shape[1].Size)
}

// scale returns x times a constant factor.
func (p *pass) scale(x *onnx.Value, factor float64) *onnx.Value {
	if factor == 1 {
		return x
	}
	return p.Mul(x, p.Scalar(x, factor))
}
