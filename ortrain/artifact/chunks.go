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
	BackwardFile = "encode_backward_model.onnx"
)

// EncodedValue names the encoded rows in the graphs of Chunks. With GradientSuffix it names their gradient.
const EncodedValue = "encoded"

// Chunks holds the graphs that train a batch whose activations do not fit into memory (GradCache, Gao et al. 2021):
//
//  1. Encode encodes the texts chunk by chunk. Only the encoded rows are kept.
//  2. Loss computes the loss of the whole batch and its gradient with respect to the encoded rows.
//  3. Backward encodes each chunk again and continues the gradient to the parameters.
type Chunks struct {
	Encode   []byte // batch, parameters, dropout factors -> encoded
	Loss     []byte // encoded, the loss's inputs -> loss, encoded.grad
	Backward []byte // what Encode reads, encoded.grad -> a gradient of every parameter
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
	if c.Encode, c.Dropout, err = build(encoding, m); err != nil {
		return nil, err
	}
	if c.Loss, _, err = build(lossOfRows, m); err != nil {
		return nil, err
	}
	c.Backward, _, err = build(encodingBackward, m)
	return c, err
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

// encodingBackward makes the graph that continues the gradient of the encoded rows to the parameters.
func encodingBackward(m Model) (*onnx.Graph, *dropout.Plan, error) {
	g := onnx.NewGraph(m.Name + " encode backward")
	find, values := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	encoded := m.Encode(g, find, drop)
	seed := grad.Seed{Value: encoded, Gradient: g.Input(EncodedValue+GradientSuffix, encoded.DType, encoded.Shape...)}
	grads, err := grad.Backward(g, []grad.Seed{seed}, values)
	if err != nil {
		return nil, nil, err
	}
	return g, drop.Plan(), outputGradients(g, m, grads)
}
