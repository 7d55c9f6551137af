package onnx

import "math"

// This file has one method per operator, in ONNX's own names and argument order.

// Microsoft is the domain of ONNX Runtime's own operators.
const Microsoft = "com.microsoft"

// Add is a + b with broadcasting.
func (g *Graph) Add(a, b *Value) *Value { return g.op1("Add", []*Value{a, b}, nil) }

// Sub is a - b with broadcasting.
func (g *Graph) Sub(a, b *Value) *Value { return g.op1("Sub", []*Value{a, b}, nil) }

// Mul is a · b, element by element, with broadcasting.
func (g *Graph) Mul(a, b *Value) *Value { return g.op1("Mul", []*Value{a, b}, nil) }

// Div is a / b with broadcasting; integers round towards zero.
func (g *Graph) Div(a, b *Value) *Value { return g.op1("Div", []*Value{a, b}, nil) }

// Pow is a to the power of b with broadcasting.
func (g *Graph) Pow(a, b *Value) *Value { return g.op1("Pow", []*Value{a, b}, nil) }

// Neg is -x.
func (g *Graph) Neg(x *Value) *Value { return g.op1("Neg", []*Value{x}, nil) }

// Exp is e to the power of x.
func (g *Graph) Exp(x *Value) *Value { return g.op1("Exp", []*Value{x}, nil) }

// Log is the natural logarithm.
func (g *Graph) Log(x *Value) *Value { return g.op1("Log", []*Value{x}, nil) }

// Sqrt is the square root.
func (g *Graph) Sqrt(x *Value) *Value { return g.op1("Sqrt", []*Value{x}, nil) }

// Abs is the absolute value.
func (g *Graph) Abs(x *Value) *Value { return g.op1("Abs", []*Value{x}, nil) }

// Sign is -1, 0 or 1.
func (g *Graph) Sign(x *Value) *Value { return g.op1("Sign", []*Value{x}, nil) }

// Reciprocal is 1 / x.
func (g *Graph) Reciprocal(x *Value) *Value { return g.op1("Reciprocal", []*Value{x}, nil) }

// Erf is the Gauss error function.
func (g *Graph) Erf(x *Value) *Value { return g.op1("Erf", []*Value{x}, nil) }

// Cos is the cosine.
func (g *Graph) Cos(x *Value) *Value { return g.op1("Cos", []*Value{x}, nil) }

// Sin is the sine.
func (g *Graph) Sin(x *Value) *Value { return g.op1("Sin", []*Value{x}, nil) }

// Tanh is the hyperbolic tangent.
func (g *Graph) Tanh(x *Value) *Value { return g.op1("Tanh", []*Value{x}, nil) }

// Sigmoid is 1 / (1 + exp(-x)).
func (g *Graph) Sigmoid(x *Value) *Value { return g.op1("Sigmoid", []*Value{x}, nil) }

// HardSigmoid is alpha·x + beta, limited to [0, 1].
func (g *Graph) HardSigmoid(x *Value, alpha, beta float32) *Value {
	return g.op1("HardSigmoid", []*Value{x}, Attrs{"alpha": alpha, "beta": beta})
}

// Relu is max(x, 0).
func (g *Graph) Relu(x *Value) *Value { return g.op1("Relu", []*Value{x}, nil) }

// Gelu is x · Φ(x), the exact form with erf (com.microsoft: ai.onnx has it from opset 20 on).
func (g *Graph) Gelu(x *Value) *Value {
	if g.Standard {
		phi := g.Add(g.Erf(g.Mul(x, g.Scalar(x, math.Sqrt2/2))), g.Scalar(x, 1))
		return g.Mul(g.Mul(x, phi), g.Scalar(x, 0.5))
	}
	return g.Op(Microsoft, "Gelu", []*Value{x}, nil, 1)[0]
}

// Identity is x under another name.
func (g *Graph) Identity(x *Value) *Value { return g.op1("Identity", []*Value{x}, nil) }

// Cast converts x to another element type.
func (g *Graph) Cast(x *Value, to DType) *Value {
	return g.op1("Cast", []*Value{x}, Attrs{"to": int64(to)})
}

// Equal is a == b with broadcasting.
func (g *Graph) Equal(a, b *Value) *Value { return g.op1("Equal", []*Value{a, b}, nil) }

// Greater is a > b with broadcasting.
func (g *Graph) Greater(a, b *Value) *Value { return g.op1("Greater", []*Value{a, b}, nil) }

// GreaterOrEqual is a >= b with broadcasting.
func (g *Graph) GreaterOrEqual(a, b *Value) *Value {
	return g.op1("GreaterOrEqual", []*Value{a, b}, nil)
}

// LessOrEqual is a <= b with broadcasting.
func (g *Graph) LessOrEqual(a, b *Value) *Value { return g.op1("LessOrEqual", []*Value{a, b}, nil) }

// And is the logical and of two bool values.
func (g *Graph) And(a, b *Value) *Value { return g.op1("And", []*Value{a, b}, nil) }

// Where is a where cond holds, b elsewhere.
func (g *Graph) Where(cond, a, b *Value) *Value { return g.op1("Where", []*Value{cond, a, b}, nil) }

// Clip limits x to [lo, hi]; nil leaves a side open.
func (g *Graph) Clip(x, lo, hi *Value) *Value { return g.op1("Clip", []*Value{x, lo, hi}, nil) }

// MatMul is the matrix product over the last two dimensions, batched and broadcast over the rest.
func (g *Graph) MatMul(a, b *Value) *Value { return g.op1("MatMul", []*Value{a, b}, nil) }

// FusedMatMulAttrs are the options of FusedMatMul.
type FusedMatMulAttrs struct {
	Alpha          float32 // factor of the product; 0 means 1
	TransA, TransB bool    // transpose the last two dimensions first
}

// FusedMatMul is alpha · op(a) · op(b) without copying a transpose (com.microsoft).
func (g *Graph) FusedMatMul(a, b *Value, at FusedMatMulAttrs) *Value {
	if at.Alpha == 0 {
		at.Alpha = 1
	}
	if g.Standard {
		return g.composedMatMul(a, b, at)
	}
	return g.Op(Microsoft, "FusedMatMul", []*Value{a, b}, Attrs{
		"alpha": at.Alpha, "transA": flag(at.TransA), "transB": flag(at.TransB),
		"transBatchA": int64(0), "transBatchB": int64(0),
	}, 1)[0]
}

// composedMatMul is FusedMatMul in operators of ai.onnx.
func (g *Graph) composedMatMul(a, b *Value, at FusedMatMulAttrs) *Value {
	transposed := func(x *Value, yes bool) *Value {
		if !yes {
			return x
		}
		perm := make([]int64, x.Rank())
		for i := range perm {
			perm[i] = int64(i)
		}
		n := len(perm)
		perm[n-2], perm[n-1] = perm[n-1], perm[n-2]
		return g.Transpose(x, perm...)
	}
	if at.Alpha != 1 {
		a = g.Mul(a, g.Scalar(a, float64(at.Alpha)))
	}
	return g.MatMul(transposed(a, at.TransA), transposed(b, at.TransB))
}

// PackedMultiHeadAttention is softmax(scale · q · kᵀ) · v within each row of packed tokens (com.microsoft, CUDA alone): q, k
// and v are [tokens, heads · size]. offsets [rows, longest] int32 has the places of the tokens among rows that are padded
// to the longest, end to end, and after them those of the padding; starts [rows + 1] int32 has each row's first token,
// and at the end how many there are.
func (g *Graph) PackedMultiHeadAttention(q, k, v, offsets, starts *Value, heads int64, scale float32) *Value {
	return g.Op(Microsoft, "PackedMultiHeadAttention", []*Value{q, k, v, nil, offsets, starts},
		Attrs{"num_heads": heads, "scale": scale}, 1)[0]
}

// GemmAttrs are the options of Gemm.
type GemmAttrs struct {
	Alpha, Beta    float32 // factors of the product and of c; 0 means 1
	TransA, TransB bool
}

// Gemm is alpha · op(a) · op(b) + beta · c on matrices; c may be nil.
func (g *Graph) Gemm(a, b, c *Value, at GemmAttrs) *Value {
	if at.Alpha == 0 {
		at.Alpha = 1
	}
	if at.Beta == 0 {
		at.Beta = 1
	}
	in := []*Value{a, b}
	if c != nil {
		in = append(in, c)
	}
	return g.op1("Gemm", in, Attrs{
		"alpha": at.Alpha, "beta": at.Beta, "transA": flag(at.TransA), "transB": flag(at.TransB),
	})
}

// Softmax normalises exp(x) along axis.
func (g *Graph) Softmax(x *Value, axis int64) *Value {
	return g.op1("Softmax", []*Value{x}, Attrs{"axis": axis})
}

// LogSoftmax is the logarithm of Softmax.
func (g *Graph) LogSoftmax(x *Value, axis int64) *Value {
	return g.op1("LogSoftmax", []*Value{x}, Attrs{"axis": axis})
}

// LayerNormalization normalises the last dimension: (x - mean) / sqrt(var + epsilon) · scale + bias.
// The node's further outputs, the mean and the inverse standard deviation, serve its gradient.
func (g *Graph) LayerNormalization(x, scale, bias *Value, epsilon float32) *Value {
	return g.Op("", "LayerNormalization", []*Value{x, scale, bias},
		Attrs{"axis": int64(-1), "epsilon": epsilon}, 3)[0]
}

// Gather picks slices of data along axis.
func (g *Graph) Gather(data, indices *Value, axis int64) *Value {
	return g.op1("Gather", []*Value{data, indices}, Attrs{"axis": axis})
}

// ScatterElementsAdd adds updates to data at indices along axis 0. Duplicate indices add up.
func (g *Graph) ScatterElementsAdd(data, indices, updates *Value) *Value {
	return g.op1("ScatterElements", []*Value{data, indices, updates},
		Attrs{"axis": int64(0), "reduction": "add"})
}

// Shape is a value's shape as a 1-D int64 tensor.
func (g *Graph) Shape(x *Value) *Value { return g.op1("Shape", []*Value{x}, nil) }

// Size is the number of a value's elements, an int64 scalar.
func (g *Graph) Size(x *Value) *Value { return g.op1("Size", []*Value{x}, nil) }

// Reshape gives x another shape; one entry may be -1, and 0 keeps x's dimension at that place.
func (g *Graph) Reshape(x, shape *Value) *Value { return g.op1("Reshape", []*Value{x, shape}, nil) }

// ReshapeTo is Reshape with a constant shape.
func (g *Graph) ReshapeTo(x *Value, shape ...int64) *Value {
	return g.Reshape(x, g.IntVector(shape...))
}

// Transpose permutes the dimensions.
func (g *Graph) Transpose(x *Value, perm ...int64) *Value {
	return g.op1("Transpose", []*Value{x}, Attrs{"perm": perm})
}

// Squeeze removes dimensions of size one.
func (g *Graph) Squeeze(x *Value, axes ...int64) *Value {
	return g.op1("Squeeze", []*Value{x, g.IntVector(axes...)}, nil)
}

// Unsqueeze inserts dimensions of size one.
func (g *Graph) Unsqueeze(x *Value, axes ...int64) *Value {
	return g.op1("Unsqueeze", []*Value{x, g.IntVector(axes...)}, nil)
}

// After is x, but not before each of the others is computed: ONNX has no control edges, and ONNX Runtime would run
// what only graph outputs need at the very end, with everything it reads kept until then. The edge is a Reshape of x
// to its own shape whose shape input ends in nothing, made of the other value's size: no data moves, and where a GPU
// computes, it need not be waited for. Size, since a Shape that is known is folded away.
func (g *Graph) After(x *Value, others ...*Value) *Value {
	if x.Rank() == 0 {
		g.Fail("After of the scalar %s", x.Name)
		return x
	}
	defer g.Scope("after")()
	for _, o := range others {
		if o == nil {
			continue
		}
		if o.waited == nil {
			o.waited = g.Expand(g.Size(o), g.IntVector(0))
		}
		// A zero in a shape keeps the dimension at its place.
		shape := g.Concat(0, g.IntVector(make([]int64, x.Rank())...), o.waited)
		x = g.Reshape(x, shape)
	}
	return x
}

// Expand broadcasts x to a shape.
func (g *Graph) Expand(x, shape *Value) *Value { return g.op1("Expand", []*Value{x, shape}, nil) }

// Concat joins values along axis.
func (g *Graph) Concat(axis int64, values ...*Value) *Value {
	if len(values) == 1 {
		return values[0]
	}
	return g.op1("Concat", values, Attrs{"axis": axis})
}

// Split cuts x along axis into parts of the given sizes.
func (g *Graph) Split(x *Value, axis int64, sizes ...int64) []*Value {
	return g.Op("", "Split", []*Value{x, g.IntVector(sizes...)}, Attrs{"axis": axis}, len(sizes))
}

// Slice cuts [starts, ends) along axes with step 1. All three are 1-D int64 values of the same length.
func (g *Graph) Slice(x, starts, ends, axes *Value) *Value {
	return g.op1("Slice", []*Value{x, starts, ends, axes}, nil)
}

// Pad puts zeros around x: pads has the rows before each dimension, then those after.
func (g *Graph) Pad(x, pads *Value) *Value { return g.op1("Pad", []*Value{x, pads}, nil) }

// ConstantOfShape is a tensor of one value; fill has one element.
func (g *Graph) ConstantOfShape(shape *Value, fill *Tensor) *Value {
	return g.op1("ConstantOfShape", []*Value{shape}, Attrs{"value": fill})
}

// Range is start, start+1, …, limit-1 as a 1-D int64 tensor.
func (g *Graph) Range(start, limit *Value) *Value {
	return g.op1("Range", []*Value{start, limit, g.IntScalar(1)}, nil)
}

// ReduceSum adds up along axes; no axes means all of them.
func (g *Graph) ReduceSum(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceSum", x, keep, axes)
}

// ReduceMean averages along axes.
func (g *Graph) ReduceMean(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceMean", x, keep, axes)
}

// ReduceMax is the largest value along axes.
func (g *Graph) ReduceMax(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceMax", x, keep, axes)
}

// ReduceMin is the smallest value along axes.
func (g *Graph) ReduceMin(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceMin", x, keep, axes)
}

// ReduceSumSquare adds up the squares along axes.
func (g *Graph) ReduceSumSquare(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceSumSquare", x, keep, axes)
}

// ReduceLogSumExp is log(sum(exp(x))) along axes.
func (g *Graph) ReduceLogSumExp(x *Value, keep bool, axes ...int64) *Value {
	return g.reduce("ReduceLogSumExp", x, keep, axes)
}

// reduce passes axes as an input, as all reductions take them from opset 18 on. The exported opset 17 graph
// uses ReduceSum alone, which has had them as an input since 13.
func (g *Graph) reduce(op string, x *Value, keep bool, axes []int64) *Value {
	in := []*Value{x}
	if len(axes) > 0 {
		in = append(in, g.IntVector(axes...))
	}
	return g.op1(op, in, Attrs{"keepdims": flag(keep)})
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// CumSum is the running sum along axis.
func (g *Graph) CumSum(x *Value, axis int64) *Value {
	return g.op1("CumSum", []*Value{x, g.IntScalar(axis)}, nil)
}
