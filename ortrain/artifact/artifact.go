// Package artifact builds and writes the artifact directory: training_model.onnx, eval_model.onnx,
// optimizer_model.onnx and two small graphs over gradients, as ordinary ONNX files. The checkpoint folder beside them
// is the trainer's.
package artifact

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rag-retrieval-go/internal/atomicdir"
	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/optim"
)

// File names in an artifact directory.
const (
	TrainingFile     = "training_model.onnx"
	EvalFile         = "eval_model.onnx"
	OptimizerFile    = "optimizer_model.onnx"
	NormFile         = "gradient_norm_model.onnx"
	AccumulationFile = "gradient_accumulation_model.onnx"
	CheckpointDir    = "checkpoint"
)

// LossOutput is the name of the loss in the training and eval graphs; GradientSuffix makes a parameter's name its
// gradient's.
const (
	LossOutput     = "loss"
	GradientSuffix = ".grad"
	// LossScale is an input of graphs of a Scaled model: [1], what their gradients are multiplied by.
	LossScale = "loss_scale"
)

// Model is what a model hands over to be trained: the loss is Loss of Encode.
type Model struct {
	Name   string
	Params []flat.Param
	// Encode adds a batch's texts and the forward pass to g and gives what the loss compares: rows that do not depend
	// on each other, such as the texts' vectors. drop is nil for evaluation.
	Encode func(g *onnx.Graph, param func(name string) *onnx.Value, drop *dropout.Graph) *onnx.Value
	// Loss adds the loss's own inputs and gives the scalar loss of encoded rows. It reads no parameter.
	Loss func(g *onnx.Graph, encoded *onnx.Value) *onnx.Value
	// Bounds are the largest sizes of the named dimensions that dropout sites have.
	Bounds map[string]int64
	// Scaled multiplies the loss's gradient by an input, LossScale, as float16 needs it.
	Scaled bool
	// Chunked adds the graphs by which a batch is encoded piece by piece.
	Chunked bool
}

// Set is an artifact directory in memory.
type Set struct {
	Layout   *flat.Layout
	Dropout  *dropout.Plan // nil where nothing is dropped
	Training []byte
	Eval     []byte
	// Optimizer, Norm and Accumulation work on views of the flat buffers.
	Optimizer, Norm, Accumulation []byte
	Chunks                        *Chunks // nil where batches are encoded whole
	// Scaled says that the graph that has the loss reads LossScale.
	Scaled bool

	model Model // for Probe
}

// Build makes the graphs of a model and its optimizer.
func Build(m Model, adamw optim.AdamW) (*Set, error) {
	layout, err := flat.NewLayout(m.Params)
	if err != nil {
		return nil, err
	}
	s := &Set{Layout: layout, Scaled: m.Scaled, model: m}
	if s.Training, s.Dropout, err = build(training, m); err != nil {
		return nil, err
	}
	if s.Eval, _, err = build(evaluation, m); err != nil {
		return nil, err
	}
	if m.Chunked {
		if s.Chunks, err = buildChunks(m); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		to *[]byte
		g  *onnx.Graph
	}{{&s.Optimizer, adamw.Graph()}, {&s.Norm, optim.NormGraph()}, {&s.Accumulation, optim.AccumulateGraph()}} {
		if *f.to, err = f.g.Bytes(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// builder makes one of a model's graphs; the plan is of its dropout.
type builder func(m Model) (*onnx.Graph, *dropout.Plan, error)

// build is a graph's file.
func build(f builder, m Model) ([]byte, *dropout.Plan, error) {
	g, plan, err := f(m)
	if err == nil {
		err = g.Err()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("building a graph of %s: %w", m.Name, err)
	}
	g.Prune()
	b, err := g.Bytes()
	return b, plan, err
}

func training(m Model) (*onnx.Graph, *dropout.Plan, error) {
	g := onnx.NewGraph(m.Name + " training")
	find, values := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	encoded := m.Encode(g, find, drop)
	if err := g.Err(); err != nil {
		return nil, nil, err // Loss relies on the shape
	}
	loss := m.Loss(g, encoded)
	grads, err := m.gradients(g, loss, values)
	if err != nil {
		return nil, nil, err
	}
	g.Output(LossOutput, loss)
	return g, drop.Plan(), outputGradients(g, m, grads)
}

// gradients are those of the loss, scaled where the model wants it.
func (m Model) gradients(g *onnx.Graph, loss *onnx.Value, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if !m.Scaled {
		return grad.Gradients(g, loss, wrt)
	}
	scale := g.Squeeze(g.Input(LossScale, onnx.Float32, onnx.D(1)), 0)
	return grad.Backward(g, []grad.Seed{{Value: loss, Gradient: scale}}, wrt)
}

// outputGradients makes a graph give the parameters' gradients.
func outputGradients(g *onnx.Graph, m Model, grads []*onnx.Value) error {
	for i, d := range grads {
		if d == nil {
			return fmt.Errorf("the loss does not depend on the parameter %q", m.Params[i].Name)
		}
		g.Output(m.Params[i].Name+GradientSuffix, d)
	}
	return nil
}

func evaluation(m Model) (*onnx.Graph, *dropout.Plan, error) {
	g := onnx.NewGraph(m.Name + " eval")
	find, _ := inputs(g, m.Params)
	encoded := m.Encode(g, find, nil)
	if err := g.Err(); err != nil {
		return nil, nil, err
	}
	g.Output(LossOutput, m.Loss(g, encoded))
	return g, nil, nil
}

// inputs makes every parameter a graph input: as constants they would be folded and packed.
func inputs(g *onnx.Graph, params []flat.Param) (find func(string) *onnx.Value, values []*onnx.Value) {
	byName := map[string]*onnx.Value{}
	for _, p := range params {
		byName[p.Name] = p.Input(g)
		values = append(values, byName[p.Name])
	}
	return func(name string) *onnx.Value {
		if byName[name] == nil {
			g.Fail("the model has no parameter %q", name)
			byName[name] = g.Input(name, onnx.Float32)
		}
		return byName[name]
	}, values
}

// Write writes the graphs into dir, which it creates; each file is there whole or not at all.
func (s *Set) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string][]byte{
		TrainingFile: s.Training, EvalFile: s.Eval, OptimizerFile: s.Optimizer,
		NormFile: s.Norm, AccumulationFile: s.Accumulation,
	}
	if c := s.Chunks; c != nil {
		files[EncodeFile], files[LossFile], files[BackwardFile] = c.Encode, c.Loss, c.Backward
	}
	var errs []error
	for name, b := range files {
		errs = append(errs, atomicdir.WriteFile(filepath.Join(dir, name), b))
	}
	return errors.Join(errs...)
}
