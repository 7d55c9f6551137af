package embedding

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"rag-retrieval-go/models/encoder"
	"rag-retrieval-go/ortrain"
	"rag-retrieval-go/ortrain/flat"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

const (
	textRows        = "texts"
	embeddingOutput = "embeddings"
	// Texts are sorted by length before batching, so that one attention group pads little.
	scoringGroups = 1
	// batchTokens bounds a batch's padded tokens and batchRows its texts, whose pooling matrix is [texts, tokens]:
	// enough work per run, little memory.
	batchTokens = 8192
	batchRows   = 256
)

// Encoder encodes texts with a model's weights on ONNX Runtime. It is used by one goroutine at a time.
type Encoder struct {
	m       *Model
	session *runtime.Session
	binding *runtime.Binding
}

// NewEncoder loads the model's weights into a session.
func NewEncoder(m *Model, o runtime.Options) (*Encoder, error) {
	layout, err := flat.NewLayout(m.Encoder.Params())
	if err != nil {
		return nil, err
	}
	weights, err := runtime.NewBuffer(int(layout.Total))
	if err != nil {
		return nil, err
	}
	defer weights.Close()
	if err := m.Encoder.ReadWeights(m.Dir, layout, weights.Data); err != nil {
		return nil, err
	}
	g := onnx.NewGraph("embedding scoring")
	m.scoringGraph(constants(g, layout, weights.Data), g)
	model, err := g.Bytes()
	if err != nil {
		return nil, err
	}
	e := &Encoder{m: m}
	if e.session, err = runtime.NewSession(model, o); err != nil {
		return nil, err
	}
	if e.binding, err = e.session.NewBinding(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close frees the session.
func (e *Encoder) Close() error { return errors.Join(e.binding.Close(), e.session.Close()) }

// Encode gives one vector [hidden] per text, in order, of at most maxLength tokens each. Each batch's progress is
// reported as the number of texts done, if progress is not nil. Equal texts are encoded once.
func (e *Encoder) Encode(ctx context.Context, texts []string, maxLength int, progress func(done int)) ([][]float32, error) {
	if err := e.m.checkLengths("the maximal length", maxLength); err != nil {
		return nil, err
	}
	index := map[string]int{}
	var rows []encoder.Row
	place := make([]int, len(texts))
	copies := []int{}
	for i, t := range texts {
		j, seen := index[t]
		if !seen {
			j = len(rows)
			index[t] = j
			rows = append(rows, encoder.Row{IDs: e.m.Tokenizer.Encode(t, maxLength)})
			copies = append(copies, 0)
		}
		place[i] = j
		copies[j]++
	}
	vectors := make([][]float32, len(rows))
	done := 0
	for _, batch := range byLength(rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := e.run(rows, batch, vectors); err != nil {
			return nil, err
		}
		for _, i := range batch {
			done += copies[i]
		}
		if progress != nil {
			progress(done)
		}
	}
	out := make([][]float32, len(texts))
	for i, j := range place {
		out[i] = vectors[j]
	}
	return out, nil
}

// byLength cuts rows, longest first, into batches of at most batchTokens padded tokens and batchRows rows.
func byLength(rows []encoder.Row) [][]int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return len(rows[order[i]].IDs) > len(rows[order[j]].IDs) })
	var out [][]int
	for len(order) > 0 {
		n := min(len(order), batchRows, max(1, batchTokens/max(1, len(rows[order[0]].IDs))))
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

// run encodes the rows of one batch into vectors.
func (e *Encoder) run(rows []encoder.Row, batch []int, vectors [][]float32) error {
	picked := make([]encoder.Row, len(batch))
	lengths := make([]int, len(batch))
	for k, i := range batch {
		picked[k], lengths[k] = rows[i], len(rows[i].IDs)
	}
	b := ortrain.NewBatch()
	starts := e.m.Encoder.Pack(b, picked, scoringGroups)
	e.m.Config.bindPooling(b, textRows, starts, lengths)
	if err := b.Bind(e.binding); err != nil {
		return err
	}
	width := int(e.m.Encoder.HiddenSize)
	flat := make([]float32, len(batch)*width)
	out, err := runtime.NewTensor(flat, int64(len(batch)), int64(width))
	if err != nil {
		return err
	}
	defer out.Close()
	if err := e.binding.Output(embeddingOutput, out); err != nil {
		return err
	}
	if err := e.binding.Run(); err != nil {
		return fmt.Errorf("encoding %d texts: %w", len(batch), err)
	}
	for k, i := range batch {
		vectors[i] = flat[k*width : (k+1)*width : (k+1)*width]
	}
	return nil
}
