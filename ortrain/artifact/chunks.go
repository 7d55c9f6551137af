package artifact

import (
	"fmt"

	"rag-retrieval-go/ortrain/dropout"
	"rag-retrieval-go/ortrain/grad"
	"rag-retrieval-go/ortrain/onnx"
)

// File names of the graphs of Chunks.
const (
	EncodeFile   = "encode_model.onnx"
	CompareFile  = "compare_model.onnx"
	BackwardFile = "encode_backward_model.onnx"
)

// EncodedValue names the encoded rows in the graphs of Chunks, and with GradientSuffix their gradient.
const EncodedValue = "encoded"

// Chunks are the graphs by which a batch larger than memory trains: its texts are encoded chunk by chunk and only the
// encoded rows are kept; the loss and its gradient with respect to them is computed for the whole batch; then each
// chunk is encoded again and its gradient taken back to the parameters. Source: Gao et al. 2021 (GradCache).
type Chunks struct {
	Encode   []byte // batch, parameters, dropout factors -> encoded
	Compare  []byte // encoded, the loss's inputs -> loss, encoded.grad
	Backward []byte // what Encode reads, encoded.grad -> a gradient of every parameter
	// Dropout are the sites of Encode and of Backward: both draw the same factors in a chunk's two passes.
	Dropout *dropout.Plan
	// Rows is the dimension that counts encoded rows, Width what each one holds.
	Rows  string
	Width []int64
}

func chunks(m Model) (*Chunks, error) {
	g := onnx.NewGraph(m.Name + " encode")
	find, _ := inputs(g, m.Params)
	drop := dropout.NewGraph(g, m.Bounds)
	encoded := m.Encode(g, find, drop)
	c := &Chunks{Dropout: drop.Plan()}
	for i, d := range encoded.Shape {
		switch {
		case i == 0 && !d.Fixed():
			c.Rows = d.Name
		case i > 0 && d.Fixed():
			c.Width = append(c.Width, d.Size)
		default:
			return nil, fmt.Errorf("encoded rows of shape %v", encoded.Shape)
		}
	}
	g.Output(EncodedValue, encoded)
	g.Prune()
	var err error
	if c.Encode, err = g.Bytes(); err != nil {
		return nil, err
	}
	if c.Compare, err = comparing(m, encoded); err != nil {
		return nil, err
	}
	c.Backward, err = encodeBackward(m)
	return c, err
}

// comparing is the loss of encoded rows with its gradient.
func comparing(m Model, like *onnx.Value) ([]byte, error) {
	g := onnx.NewGraph(m.Name + " compare")
	encoded := g.Input(EncodedValue, like.DType, like.Shape...)
	loss := m.Compare(g, encoded)
	grads, err := grad.Gradients(g, loss, []*onnx.Value{encoded})
	if err != nil {
		return nil, err
	}
	g.Output(LossOutput, loss)
	g.Output(EncodedValue+GradientSuffix, grads[0])
	g.Prune()
	return g.Bytes()
}

// encodeBackward takes the gradient of encoded rows back to the parameters.
func encodeBackward(m Model) ([]byte, error) {
	g := onnx.NewGraph(m.Name + " encode backward")
	find, values := inputs(g, m.Params)
	encoded := m.Encode(g, find, dropout.NewGraph(g, m.Bounds))
	seed := grad.Seed{Value: encoded, Gradient: g.Input(EncodedValue+GradientSuffix, encoded.DType, encoded.Shape...)}
	grads, err := grad.Backward(g, []grad.Seed{seed}, values)
	if err != nil {
		return nil, err
	}
	return withGradients(g, m, grads)
}
