// Package artifact builds the graphs of a training run from a model's forward pass and loss, and writes them as ordinary
// ONNX files into an artifact directory: training_model.onnx, eval_model.onnx, optimizer_model.onnx and two small graphs
// over gradients. It runs no graph; package ortrain does, and also writes the checkpoint folder beside these files.
//
//	set, err := artifact.Build(artifact.Model{Name: "m", Params: params, Encode: encode, Loss: loss}, optim.DefaultAdamW)
//	err = set.Write("artifacts")
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

// Names of graph inputs and outputs.
const (
	LossOutput     = "loss"       // the scalar loss, in the training and eval graphs
	GradientSuffix = ".grad"      // a parameter's name with this suffix is its gradient
	LossScale      = "loss_scale" // input [1] of the graphs of a Scaled model: the factor of all gradients
)

// Model describes a model to train. Its loss is Loss(Encode(batch)).
type Model struct {
	Name   string
	Params []flat.Param
	// Encode adds the inputs for a batch's texts and the forward pass to g. It returns the encoded rows that the loss
	// reads, such as one vector for each text. A row must not depend on other texts. drop is nil for evaluation.
	Encode func(g *onnx.Graph, param func(name string) *onnx.Value, drop *dropout.Graph) *onnx.Value
	// Loss adds the inputs of the loss, such as labels, and returns the scalar loss of the encoded rows. It reads no
	// parameter.
	Loss func(g *onnx.Graph, encoded *onnx.Value) *onnx.Value
	// Comparison is set if Loss compares each query with all passages of a batch. It is then the same loss in another form.
	Comparison *Comparison
	// Bounds are the largest sizes of the named dimensions of values with dropout.
	Bounds map[string]int64
	// Scaled makes the gradients a multiple of the loss's, by the input LossScale. Training in float16 needs it.
	Scaled bool
	// Chunked adds the graphs that encode a batch chunk by chunk; see Chunks.
	Chunked bool
	// OneChunk says, of a Chunked model, that every batch is one chunk. Its activations are then kept for the backward pass.
	OneChunk bool
}

// Set is an artifact directory in memory.
type Set struct {
	Layout   *flat.Layout
	Dropout  *dropout.Plan // nil if the model has no dropout
	Training []byte
	Eval     []byte
	// Optimizer, Norm and Accumulation work on views of the flat buffers of all trained parameters and their gradients.
	Optimizer, Norm, Accumulation []byte
	Chunks                        *Chunks // nil if batches are encoded whole
	// Scaled says that the graph with the loss has the input LossScale.
	Scaled bool

	model Model // for Probe
}

// Build makes the graphs of a model and its optimizer. The same model always gives the same bytes.
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

// builder makes one of a model's graphs and the plan of its dropout.
type builder func(m Model) (*onnx.Graph, *dropout.Plan, error)

// build makes a graph and returns it as the bytes of an ONNX file.
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
	find, trained := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	encoded := m.Encode(g, find, drop)
	if err := g.Err(); err != nil {
		return nil, nil, err // Loss needs the shape of the encoded rows
	}
	loss := m.Loss(g, encoded)
	grads, err := m.gradients(g, loss, trained)
	if err != nil {
		return nil, nil, err
	}
	g.Output(LossOutput, loss)
	return g, drop.Plan(), outputGradients(g, trained, grads)
}

// gradients returns the gradients of the loss, times LossScale if the model is Scaled.
func (m Model) gradients(g *onnx.Graph, loss *onnx.Value, wrt []*onnx.Value) ([]*onnx.Value, error) {
	if !m.Scaled {
		return grad.Gradients(g, loss, wrt)
	}
	scale := g.Squeeze(g.Input(LossScale, onnx.Float32, onnx.FixedDim(1)), 0)
	return grad.Backward(g, []grad.Seed{{Value: loss, Gradient: scale}}, wrt)
}

// outputGradients adds the gradients of the trained parameters to the outputs of a graph.
func outputGradients(g *onnx.Graph, trained, grads []*onnx.Value) error {
	for i, d := range grads {
		name := trained[i].Name
		if d == nil {
			return fmt.Errorf("the loss does not depend on the parameter %q", name)
		}
		g.Output(name+GradientSuffix, d)
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

// inputs makes every parameter a graph input. ONNX Runtime would fold and pre-pack constants: trained ones could then not change, and
// of frozen ones every session would hold packed copies, one for the forward and one for the backward pass. trained are the values
// of the trained parameters.
func inputs(g *onnx.Graph, params []flat.Param) (find func(string) *onnx.Value, trained []*onnx.Value) {
	byName := map[string]*onnx.Value{}
	for _, p := range params {
		byName[p.Name] = p.Input(g)
		if !p.Frozen {
			trained = append(trained, byName[p.Name])
		}
	}
	return func(name string) *onnx.Value {
		if byName[name] == nil {
			g.Fail("the model has no parameter %q", name)
			byName[name] = g.Input(name, onnx.Float32)
		}
		return byName[name]
	}, trained
}

// Write writes the graphs into dir, and creates it if needed. A crash leaves no half-written file.
func (s *Set) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string][]byte{
		TrainingFile: s.Training, EvalFile: s.Eval, OptimizerFile: s.Optimizer,
		NormFile: s.Norm, AccumulationFile: s.Accumulation,
	}
	if c := s.Chunks; c != nil {
		files[EncodeFile], files[BackwardFile] = c.Encode, c.Backward
		if c.Compare != nil {
			files[CompareFile] = c.Compare
		} else {
			files[LossFile] = c.Loss
		}
	}
	var errs []error
	for name, b := range files {
		errs = append(errs, atomicdir.WriteFile(filepath.Join(dir, name), b))
	}
	return errors.Join(errs...)
}
