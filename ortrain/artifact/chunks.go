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

// EncodedValue names the encoded rows in the graphs of Chunks, and with GradientSuffix their gradient.
const EncodedValue = "encoded"

// Chunks are the graphs by which a batch larger than memory trains: its texts are encoded chunk by chunk and only the
// encoded rows are kept; the loss and its gradient with respect to them is computed for the whole batch; then each
// chunk is encoded again and its gradient taken back to the parameters. Source: Gao et al. 2021 (GradCache).
type Chunks struct {
	Encode   []byte // batch, parameters, dropout factors -> encoded
	Loss     []byte // encoded, the loss's inputs -> loss, encoded.grad
	Backward []byte // what Encode reads, encoded.grad -> a gradient of every parameter
	// Dropout are the sites of Encode and of Backward: both draw the same factors in a chunk's two passes.
	Dropout *dropout.Plan
	// Rows is the dimension that counts encoded rows, Width what each one holds.
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
			return nil, fmt.Errorf("encoded rows of shape %v", shape)
		}
	}
	if c.Encode, c.Dropout, err = build(encoding, m); err != nil {
		return nil, err
	}
	if c.Loss, _, err = build(comparing, m); err != nil {
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

// comparing is the loss of encoded rows with its gradient.
func comparing(m Model) (*onnx.Graph, *dropout.Plan, error) {
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

// encodingBackward takes the gradient of encoded rows back to the parameters.
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
