package artifact

import (
	"errors"
	"fmt"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// File names of the graphs of Chunks.
const (
	EncodeFile   = "encode_model.onnx"
	LossFile     = "loss_model.onnx"
	CompareFile  = "compare_model.onnx"
	BackwardFile = "encode_backward_model.onnx"
)

// EncodedValue names the encoded rows in the graphs of Chunks. With GradientSuffix it names their gradient.
const EncodedValue = "encoded"

// Names of inputs and outputs of the graph Chunks.Compare. With GradientSuffix, the first two name their gradients.
const (
	QueriesValue  = "queries"      // the encoded rows of some queries, end to end: [rows, width...]
	PassagesValue = "passages"     // the encoded rows of all passages, padded: [passages, length, width...]
	PassagesSum   = "passages_sum" // a gradient of the passages, to which the graph adds
	LossWeight    = "loss_weight"  // [1], the factor of all gradients
)

// Comparison is a loss over a matrix of scores of queries and passages, which is the mean of one loss for each query. It can be
// computed for some queries at a time, and with passages that were encoded elsewhere.
type Comparison struct {
	QueryRows onnx.Dim // counts the queries' encoded rows
	Passages  onnx.Dim // counts the passages
	Length    onnx.Dim // counts the encoded rows of a passage
	// Loss adds the inputs of the loss and returns the mean loss of the queries. queries has the shape [QueryRows, width...],
	// passages [Passages, Length, width...].
	Loss func(g *onnx.Graph, queries, passages *onnx.Value) *onnx.Value
}

// Chunks holds the graphs that train a batch whose activations do not fit into memory (GradCache, Gao et al. 2021):
//
//  1. Encode encodes the texts chunk by chunk. Only the encoded rows are kept.
//  2. Loss computes the loss of the whole batch and its gradient with respect to the encoded rows.
//  3. Backward encodes each chunk again and continues the gradient to the parameters.
//
// Where a batch is one chunk, see Model.OneChunk, Backward does not encode it again: Encode keeps what Backward reads.
//
// If the model has a Comparison, Compare takes the place of Loss: it computes the loss of a block of queries with all passages,
// and the gradient with respect to both, so that the matrix of scores of a large batch is never in memory as a whole.
type Chunks struct {
	Encode   []byte // batch, parameters, dropout factors -> encoded
	Loss     []byte // encoded, the loss's inputs -> loss, encoded.grad; nil if there is Compare
	Compare  []byte // queries, passages, passages_sum, the loss's inputs -> loss, queries.grad, passages.grad
	Backward []byte // what Encode reads, encoded.grad, Kept -> a gradient of every parameter
	// Kept names the outputs of Encode that are inputs of Backward; nil if Backward encodes the texts again.
	Kept []string
	// Dropout is the plan of both Encode and Backward: they must use the same factors for the same chunk.
	Dropout *dropout.Plan
	// The encoded rows have the shape [Rows, Width...]: Rows is the name of a dimension, Width are sizes.
	Rows  string
	Width []int64
}

func buildChunks(m Model) (c *Chunks, err error) {
	c = &Chunks{}
	shape, err := encodedShape(m)
	if err != nil {
		return nil, err
	}
	for i, d := range shape {
		switch {
		case i == 0 && !d.Fixed():
			c.Rows = d.Name
		case i > 0 && d.Fixed():
			c.Width = append(c.Width, d.Size)
		default:
			return nil, fmt.Errorf("encoded rows of shape %v, want a first dimension with a name and then sizes", shape)
		}
	}
	if m.OneChunk {
		err = c.buildOnce(m)
	} else {
		err = c.buildTwice(m)
	}
	if err != nil {
		return nil, err
	}
	if m.Comparison != nil {
		c.Compare, _, err = build(comparison, m)
	} else {
		c.Loss, _, err = build(lossOfRows, m)
	}
	return c, err
}

// buildTwice makes the graphs that encode the texts twice.
func (c *Chunks) buildTwice(m Model) (err error) {
	if c.Encode, c.Dropout, err = build(encoding, m); err != nil {
		return err
	}
	c.Backward, _, err = build(encodingBackward, m)
	return err
}

// buildOnce makes the graphs that encode the texts once.
func (c *Chunks) buildOnce(m Model) (err error) {
	var forward, backward *onnx.Graph
	cut := func(m Model) (*onnx.Graph, *dropout.Plan, error) {
		g, plan, encoded, nodes, err := encodingInSteps(m)
		if err != nil || g.Err() != nil {
			return g, nil, err
		}
		g.Outputs = append(g.Outputs, encoded)
		g.Prune() // nothing is kept for gradients that are not outputs
		g.Outputs = g.Outputs[:len(g.Outputs)-1]
		first := 0
		for first < len(g.Nodes) && nodes[g.Nodes[first]] {
			first++
		}
		var kept []*onnx.Value
		forward, backward, kept = g.Cut(first, encoded)
		for _, v := range kept {
			c.Kept = append(c.Kept, v.Name)
		}
		return backward, plan, nil
	}
	if c.Backward, c.Dropout, err = build(cut, m); err != nil {
		return err
	}
	c.Encode, _, err = build(func(Model) (*onnx.Graph, *dropout.Plan, error) { return forward, nil, nil }, m)
	return err
}

func encoding(m Model) (*onnx.Graph, *dropout.Plan, error) {
	g := onnx.NewGraph(m.Name + " encode")
	find, _ := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	g.Output(EncodedValue, m.Encode(g, find, drop))
	return g, drop.Plan(), nil
}

func encodedShape(m Model) (onnx.Shape, error) {
	g, _, err := encoding(m)
	if err != nil || g.Err() != nil {
		return nil, errors.Join(err, g.Err())
	}
	return g.Outputs[0].Shape, nil
}

// lossOfRows makes the graph of the loss of encoded rows and its gradient with respect to them.
func lossOfRows(m Model) (*onnx.Graph, *dropout.Plan, error) {
	shape, err := encodedShape(m)
	if err != nil {
		return nil, nil, err
	}
	g := onnx.NewGraph(m.Name + " compare")
	encoded := g.Input(EncodedValue, onnx.Float32, shape...)
	loss := m.Loss(g, encoded)
	grads, err := m.gradients(g, loss, []*onnx.Value{encoded})
	if err != nil {
		return nil, nil, err
	}
	g.Output(LossOutput, loss)
	g.Output(EncodedValue+GradientSuffix, grads[0])
	return g, nil, nil
}

// comparison makes the graph of the loss of some queries and its gradients.
func comparison(m Model) (*onnx.Graph, *dropout.Plan, error) {
	shape, err := encodedShape(m)
	if err != nil {
		return nil, nil, err
	}
	c, width := m.Comparison, shape[1:]
	g := onnx.NewGraph(m.Name + " compare")
	queries := g.Input(QueriesValue, onnx.Float32, append(onnx.Shape{c.QueryRows}, width...)...)
	passages := g.Input(PassagesValue, onnx.Float32, append(onnx.Shape{c.Passages, c.Length}, width...)...)
	loss := c.Loss(g, queries, passages)
	weight := g.Squeeze(g.Input(LossWeight, onnx.Float32, onnx.FixedDim(1)), 0)
	grads, err := grad.Backward(g, []grad.Seed{{Value: loss, Gradient: weight}}, []*onnx.Value{queries, passages})
	if err != nil {
		return nil, nil, err
	}
	g.Output(LossOutput, loss)
	g.Output(QueriesValue+GradientSuffix, grads[0])
	g.Output(PassagesValue+GradientSuffix, g.Add(g.Input(PassagesSum, onnx.Float32, passages.Shape...), grads[1]))
	return g, nil, nil
}

// encodingBackward makes the graph that continues the gradient of the encoded rows to the parameters.
func encodingBackward(m Model) (*onnx.Graph, *dropout.Plan, error) {
	g, plan, _, _, err := encodingInSteps(m)
	return g, plan, err
}

// encodingInSteps is encodingBackward. It also returns the encoded rows, as a value that the backward pass does not read, and the
// nodes of the forward pass.
func encodingInSteps(m Model) (g *onnx.Graph, plan *dropout.Plan, out *onnx.Value, forward map[*onnx.Node]bool, err error) {
	g = onnx.NewGraph(m.Name + " encode backward")
	find, trained := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	encoded := m.Encode(g, find, drop)
	if err := g.Err(); err != nil {
		return nil, nil, nil, nil, err
	}
	out = g.Identity(encoded)
	g.Rename(out, EncodedValue)
	forward = map[*onnx.Node]bool{}
	for _, n := range g.Nodes {
		forward[n] = true
	}
	seed := grad.Seed{Value: encoded, Gradient: g.Input(EncodedValue+GradientSuffix, encoded.DType, encoded.Shape...)}
	grads, err := grad.Backward(g, []grad.Seed{seed}, trained)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	return g, drop.Plan(), out, forward, outputGradients(g, trained, grads)
}
