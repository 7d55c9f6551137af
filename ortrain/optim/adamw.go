// Package optim has the AdamW optimizer as an ONNX graph, the graphs for gradient norm and gradient accumulation, the
// learning-rate schedule and the loss scaler. The graphs work on a view of n elements of a flat buffer; package ortrain
// runs them.
package optim

import (
	"math"

	"rag-retrieval-go/ortrain/onnx"
)

// AdamW holds the settings of the optimizer. The zero value is not useful; start from DefaultAdamW.
type AdamW struct {
	Beta1, Beta2 float64
	Epsilon      float64
	WeightDecay  float64
}

// DefaultAdamW has PyTorch's betas and epsilon, and RAG-Retrieval's weight decay.
var DefaultAdamW = AdamW{Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, WeightDecay: 0.01}

// Inputs of the optimizer graph. Parameter, FirstMoment and SecondMoment are also outputs, with the suffix OutSuffix.
const (
	Parameter    = "parameter"
	FirstMoment  = "exp_avg"
	SecondMoment = "exp_avg_sq"
	Gradient     = "gradient"
	OutSuffix    = ".out"

	GradientScale = "gradient_scale" // (1-β1) · clipping
	DecayFactor   = "decay_factor"   // 1 - lr · weight decay
	StepSize      = "step_size"      // lr · √(1 - β2^t) / (1 - β1^t)
	Epsilon       = "epsilon"        // ε · √(1 - β2^t)
)

// Scalars holds the values of the scalar inputs of the optimizer graph for one step.
type Scalars struct {
	GradientScale, DecayFactor, StepSize, Epsilon float64
}

// At returns the scalars of step t, counted from 1. lr is the step's learning rate; scale is the factor that clipping and
// loss scaling apply to the gradients.
func (a AdamW) At(t int, lr, scale float64) Scalars {
	correction := math.Sqrt(1 - math.Pow(a.Beta2, float64(t)))
	return Scalars{
		GradientScale: (1 - a.Beta1) * scale,
		DecayFactor:   1 - lr*a.WeightDecay,
		StepSize:      lr * correction / (1 - math.Pow(a.Beta1, float64(t))),
		Epsilon:       a.Epsilon * correction,
	}
}

// Graph makes the graph of one AdamW step on a view of n elements. It equals torch.optim.AdamW (Loshchilov and Hutter
// 2017). The bias corrections are folded into two scalars. Every operator is elementwise, so outputs may share the memory
// of their inputs:
//
//	h ← gradient · gradient_scale,   gradient_scale = (1-β1) · clipping
//	m ← β1·m + h        v ← β2·v + (1-β2)/(1-β1)²·h²
//	p ← p·decay_factor - step_size · m / (√v + epsilon)
func (a AdamW) Graph() *onnx.Graph {
	g := onnx.NewGraph("adamw")
	n := onnx.NamedDim("elements")
	vector := func(name string) *onnx.Value { return g.Input(name, onnx.Float32, n) }
	scalar := func(name string) *onnx.Value { return g.Input(name, onnx.Float32, onnx.FixedDim(1)) }
	p, m, v, gradient := vector(Parameter), vector(FirstMoment), vector(SecondMoment), vector(Gradient)
	gradientScale, decayFactor, stepSize, epsilon := scalar(GradientScale), scalar(DecayFactor), scalar(StepSize), scalar(Epsilon)
	inputs := []*onnx.Value{p, m, v, gradient, gradientScale, decayFactor, stepSize, epsilon}
	h := g.Mul(gradient, gradientScale)
	c := func(x float64) *onnx.Value { return g.Scalar(h, x) }
	squareScale := (1 - a.Beta2) / ((1 - a.Beta1) * (1 - a.Beta1))
	m = g.Add(g.Mul(m, c(a.Beta1)), h)
	v = g.Add(g.Mul(v, c(a.Beta2)), g.Mul(g.Mul(h, h), c(squareScale)))
	decayed := g.Mul(p, decayFactor)
	p = g.Sub(decayed, g.Mul(g.Div(m, g.Add(g.Sqrt(v), epsilon)), stepSize))
	g.Kernel(onnx.Kernel{
		Op: "AdamW", Inputs: inputs, Outputs: []*onnx.Value{p, m, v},
		Attrs: onnx.Attrs{"beta1": float32(a.Beta1), "beta2": float32(a.Beta2), "square_scale": float32(squareScale)},
	})
	g.Output(Parameter+OutSuffix, p)
	g.Output(FirstMoment+OutSuffix, m)
	g.Output(SecondMoment+OutSuffix, v)
	return g
}

// SumOfSquares is the output of NormGraph.
const SumOfSquares = "sum_of_squares"

// NormGraph makes a graph that sums the squares of a view of the gradient: [elements] -> [1]. Clipping by the global norm
// needs it.
func NormGraph() *onnx.Graph {
	g := onnx.NewGraph("gradient_norm")
	x := g.Input(Gradient, onnx.Float32, onnx.NamedDim("elements"))
	sum := g.ReduceSumSquare(x, true, 0)
	g.Kernel(onnx.Kernel{Op: "SumOfSquares", Inputs: []*onnx.Value{x}, Outputs: []*onnx.Value{sum}})
	g.Output(SumOfSquares, sum)
	return g
}

// Further inputs of AccumulateGraph. Accumulated is also its output, with OutSuffix.
const (
	Accumulated = "accumulated"
	Weight      = "weight" // the micro-batch's share of the step's rows
	Keep        = "keep"   // 0 for the first micro-batch of a step, 1 after it
)

// AccumulateGraph makes a graph that adds the gradient of a micro-batch to the step's sum: accumulated + gradient·weight.
// Keep = 0 starts a new sum. A NaN or Inf of the previous step must not survive in it, so the old sum is selected away, not
// multiplied by 0.
func AccumulateGraph() *onnx.Graph {
	g := onnx.NewGraph("gradient_accumulation")
	n := onnx.NamedDim("elements")
	acc, x := g.Input(Accumulated, onnx.Float32, n), g.Input(Gradient, onnx.Float32, n)
	keep, weight := g.Input(Keep, onnx.Float32, onnx.FixedDim(1)), g.Input(Weight, onnx.Float32, onnx.FixedDim(1))
	zero := g.Scalar(acc, 0)
	sum := g.Add(g.Where(g.Greater(keep, zero), acc, zero), g.Mul(x, weight))
	g.Kernel(onnx.Kernel{Op: "Accumulate", Inputs: []*onnx.Value{acc, x, keep, weight}, Outputs: []*onnx.Value{sum}})
	g.Output(Accumulated+OutSuffix, sum)
	return g
}
