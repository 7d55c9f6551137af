package onnx

import "math"

// This file has one method for each operator. Names and the order of arguments are ONNX's, where each operator is specified:
// https://onnx.ai/onnx/operators. Element-wise operators broadcast their arguments, see Broadcast.

// Microsoft is the domain of ONNX Runtime's own operators (docs/ContribOperators.md in its repository).
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

// Erf is the Gauss error function, 2/√π · ∫ exp(-t²) dt from 0 to x.
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

// Gelu is x · Φ(x) in the exact form, x · ½(1 + erf(x/√2)). It is com.microsoft's operator, because ai.onnx has Gelu only from
// opset 20 on.
func (g *Graph) Gelu(x *Value) *Value {
	if g.StandardOpsOnly {
		twicePhi := g.Add(g.Erf(g.Mul(x, g.Scalar(x, math.Sqrt2/2))), g.Scalar(x, 1))
		return g.Mul(g.Mul(x, twicePhi), g.Scalar(x, 0.5))
	}
	return g.Op(Microsoft, "Gelu", []*Value{x}, nil, 1)[0]
}

// Identity is a copy of x.
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

// Where is a where cond is true and b elsewhere, with broadcasting.
func (g *Graph) Where(cond, a, b *Value) *Value { return g.op1("Where", []*Value{cond, a, b}, nil) }

// Clip limits x to [lo, hi]. A nil bound is no limit.
func (g *Graph) Clip(x, lo, hi *Value) *Value { return g.op1("Clip", []*Value{x, lo, hi}, nil) }

// MatMul is the product of the matrices in the last two dimensions. The other dimensions are a batch and broadcast.
func (g *Graph) MatMul(a, b *Value) *Value { return g.op1("MatMul", []*Value{a, b}, nil) }

// FusedMatMulAttrs are the options of FusedMatMul.
type FusedMatMulAttrs struct {
	Alpha          float32 // the factor of the product; 0 means 1
	TransA, TransB bool    // whether op transposes the last two dimensions
}

// FusedMatMul is alpha · op(a) · op(b), batched as MatMul, where op transposes its argument or leaves it as it is. No
// transpose is copied. It is com.microsoft's operator.
func (g *Graph) FusedMatMul(a, b *Value, attrs FusedMatMulAttrs) *Value {
	if attrs.Alpha == 0 {
		attrs.Alpha = 1
	}
	if g.StandardOpsOnly {
		return g.composedMatMul(a, b, attrs)
	}
	return g.Op(Microsoft, "FusedMatMul", []*Value{a, b}, Attrs{
		"alpha": attrs.Alpha, "transA": boolAttr(attrs.TransA), "transB": boolAttr(attrs.TransB),
		"transBatchA": int64(0), "transBatchB": int64(0),
	}, 1)[0]
}

// composedMatMul is FusedMatMul, composed of operators of ai.onnx.
func (g *Graph) composedMatMul(a, b *Value, attrs FusedMatMulAttrs) *Value {
	op := func(x *Value, transpose bool) *Value {
		if !transpose {
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
	if attrs.Alpha != 1 {
		a = g.Mul(a, g.Scalar(a, float64(attrs.Alpha)))
	}
	return g.MatMul(op(a, attrs.TransA), op(b, attrs.TransB))
}

// PackedMultiHeadAttention is softmax(scale · q · kᵀ) · v within each sequence of packed tokens. q, k and v are
// [tokens, heads · head size]. It is com.microsoft's operator and runs only on CUDA.
//
// starts, int32 [sequences + 1], has the first token of each sequence, and at its end the number of tokens. offsets, int32
// [sequences, longest], refers to the positions of the same tokens when every sequence is padded to the longest: first the
// positions of the tokens, then the positions of the padding.
func (g *Graph) PackedMultiHeadAttention(q, k, v, offsets, starts *Value, heads int64, scale float32) *Value {
	return g.Op(Microsoft, "PackedMultiHeadAttention", []*Value{q, k, v, nil, offsets, starts},
		Attrs{"num_heads": heads, "scale": scale}, 1)[0]
}

// GemmAttrs are the options of Gemm.
type GemmAttrs struct {
	Alpha, Beta    float32 // the factors of the product and of c; 0 means 1
	TransA, TransB bool    // whether op transposes a or b
}

// Gemm is alpha · op(a) · op(b) + beta · c on matrices, where op transposes its argument or leaves it as it is. c broadcasts to
// the product; nil is zero.
func (g *Graph) Gemm(a, b, c *Value, attrs GemmAttrs) *Value {
	if attrs.Alpha == 0 {
		attrs.Alpha = 1
	}
	if attrs.Beta == 0 {
		attrs.Beta = 1
	}
	in := []*Value{a, b}
	if c != nil {
		in = append(in, c)
	}
	return g.op1("Gemm", in, Attrs{
		"alpha": attrs.Alpha, "beta": attrs.Beta, "transA": boolAttr(attrs.TransA), "transB": boolAttr(attrs.TransB),
	})
}

// Softmax is exp(x) / Σ exp(x), with the sum along axis.
func (g *Graph) Softmax(x *Value, axis int64) *Value {
	return g.op1("Softmax", []*Value{x}, Attrs{"axis": axis})
}

// LogSoftmax is the logarithm of Softmax.
func (g *Graph) LogSoftmax(x *Value, axis int64) *Value {
	return g.op1("LogSoftmax", []*Value{x}, Attrs{"axis": axis})
}

// LayerNormalization normalizes x along its last dimension: (x - mean) / √(variance + epsilon) · scale + bias. The node has two
// further outputs for its gradient: the mean and the inverse standard deviation.
func (g *Graph) LayerNormalization(x, scale, bias *Value, epsilon float32) *Value {
	return g.Op("", "LayerNormalization", []*Value{x, scale, bias},
		Attrs{"axis": int64(-1), "epsilon": epsilon}, 3)[0]
}

// Gather is data[…, indices, …]: it picks slices along axis. The dimensions of indices replace that axis.
func (g *Graph) Gather(data, indices *Value, axis int64) *Value {
	return g.op1("Gather", []*Value{data, indices}, Attrs{"axis": axis})
}

// ScatterElementsAdd returns data with updates added at indices along axis 0. indices has the shape of updates. At duplicate
// indices, all updates are added.
func (g *Graph) ScatterElementsAdd(data, indices, updates *Value) *Value {
	return g.op1("ScatterElements", []*Value{data, indices, updates},
		Attrs{"axis": int64(0), "reduction": "add"})
}

// Shape is the shape of x as a 1-D int64 tensor.
func (g *Graph) Shape(x *Value) *Value { return g.op1("Shape", []*Value{x}, nil) }

// Size is the number of elements of x as an int64 scalar.
func (g *Graph) Size(x *Value) *Value { return g.op1("Size", []*Value{x}, nil) }

// Reshape gives x another shape, a 1-D int64 value. One entry may be -1; its size follows from the others. An entry of 0 keeps
// the dimension of x at that place.
func (g *Graph) Reshape(x, shape *Value) *Value { return g.op1("Reshape", []*Value{x, shape}, nil) }

// ReshapeTo is Reshape with a constant shape.
func (g *Graph) ReshapeTo(x *Value, shape ...int64) *Value {
	return g.Reshape(x, g.IntVector(shape...))
}

// Transpose permutes the dimensions: dimension i of the result is dimension perm[i] of x.
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

// After returns x with control dependencies: a value that is computed only after all of the others. nil is ignored.
//
// ONNX Runtime computes values that only graph outputs need at the very end, and keeps everything they read in memory until
// then. A control dependency makes it compute them earlier. ONNX has no such dependencies, so this one is a Reshape of x to
// its own shape, whose shape input is concatenated with an empty tensor that is computed from the other value. No data is
// copied. The empty tensor is made of the other value's Size, which is known before a GPU has computed the value, so the
// host does not wait for the GPU. It is not made of its Shape, because ONNX Runtime folds known shapes into constants.
func (g *Graph) After(x *Value, others ...*Value) *Value {
	if x.Rank() == 0 {
		g.Fail("After: %s is a scalar, want at least one dimension", x.Name)
		return x
	}
	defer g.Scope("after")()
	for _, o := range others {
		if o == nil {
			continue
		}
		if o.dependency == nil {
			o.dependency = g.Expand(g.Size(o), g.IntVector(0))
		}
		ownShape := g.IntVector(make([]int64, x.Rank())...) // an entry of 0 keeps a dimension
		x = g.Reshape(x, g.Concat(0, ownShape, o.dependency))
	}
	return x
}

// Expand broadcasts x to a shape, a 1-D int64 value.
func (g *Graph) Expand(x, shape *Value) *Value { return g.op1("Expand", []*Value{x, shape}, nil) }

// Concat concatenates values along axis.
func (g *Graph) Concat(axis int64, values ...*Value) *Value {
	if len(values) == 1 {
		return values[0]
	}
	return g.op1("Concat", values, Attrs{"axis": axis})
}

// Split splits x along axis into parts of the given sizes.
func (g *Graph) Split(x *Value, axis int64, sizes ...int64) []*Value {
	return g.Op("", "Split", []*Value{x, g.IntVector(sizes...)}, Attrs{"axis": axis}, len(sizes))
}

// TopK gives the k largest elements of x along axis, in descending order, and their int64 indices. Of equal elements, the one
// with the lower index comes first. k is a 1-D int64 value of length 1, and at most the length of the axis.
func (g *Graph) TopK(x, k *Value, axis int64) (values, indices *Value) {
	out := g.Op("", "TopK", []*Value{x, k}, Attrs{"axis": axis}, 2)
	return out[0], out[1]
}

// Slice is the part [starts, ends) of x along axes. All three are 1-D int64 values of the same length; axes must be a
// constant. A negative bound counts from the end.
func (g *Graph) Slice(x, starts, ends, axes *Value) *Value {
	return g.op1("Slice", []*Value{x, starts, ends, axes}, nil)
}

// Pad puts zeros around x. pads, int64 [2 · rank], has the number of zeros before each dimension, then the number after each.
func (g *Graph) Pad(x, pads *Value) *Value { return g.op1("Pad", []*Value{x, pads}, nil) }

// ConstantOfShape is a tensor of the given shape, a 1-D int64 value, whose elements are all equal to the one element of fill.
func (g *Graph) ConstantOfShape(shape *Value, fill *Tensor) *Value {
	return g.op1("ConstantOfShape", []*Value{shape}, Attrs{"value": fill})
}

// Range is start, start+1, …, limit-1 as a 1-D int64 tensor. start and limit are int64 scalars.
func (g *Graph) Range(start, limit *Value) *Value {
	return g.op1("Range", []*Value{start, limit, g.IntScalar(1)}, nil)
}

// ReduceSum is the sum along axes. In all reductions, no axes means all of them, and keepDims keeps the reduced dimensions
// with size 1.
func (g *Graph) ReduceSum(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceSum", x, keepDims, axes)
}

// ReduceMean is the mean along axes.
func (g *Graph) ReduceMean(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceMean", x, keepDims, axes)
}

// ReduceMax is the largest value along axes.
func (g *Graph) ReduceMax(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceMax", x, keepDims, axes)
}

// ReduceMin is the smallest value along axes.
func (g *Graph) ReduceMin(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceMin", x, keepDims, axes)
}

// ReduceSumSquare is the sum of squares along axes.
func (g *Graph) ReduceSumSquare(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceSumSquare", x, keepDims, axes)
}

// ReduceLogSumExp is log(sum(exp(x))) along axes.
func (g *Graph) ReduceLogSumExp(x *Value, keepDims bool, axes ...int64) *Value {
	return g.reduce("ReduceLogSumExp", x, keepDims, axes)
}

// reduce appends a reduction with its axes as an input. All reductions take them so from opset 18 on, and ReduceSum, the only
// one in exported graphs of opset 17, from opset 13 on.
func (g *Graph) reduce(op string, x *Value, keepDims bool, axes []int64) *Value {
	in := []*Value{x}
	if len(axes) > 0 {
		in = append(in, g.IntVector(axes...))
	}
	return g.op1(op, in, Attrs{"keepdims": boolAttr(keepDims)})
}

// boolAttr returns a bool as an attribute: 1 for true, 0 for false.
func boolAttr(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// CumSum is the running sum along axis.
func (g *Graph) CumSum(x *Value, axis int64) *Value {
	return g.op1("CumSum", []*Value{x, g.IntScalar(axis)}, nil)
}
