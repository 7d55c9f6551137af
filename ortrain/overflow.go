package ortrain

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// maxRowsInError is the most rows of a batch that an error names.
const maxRowsInError = 64

// overflowError makes the error of a step whose loss or gradient is not finite. It computes the step again to find the
// first tensor with a value that is not finite, and names it with the rows of the batch. All ranks of a job call it, because
// loss and norm are the job's; the error names what any of them found.
func (t *Trainer) overflowError(s Step, batches []*Batch) error {
	about := fmt.Sprintf("step %d: the loss is %g and the gradient's norm %g; no parameter was changed", s.Step, s.Loss, s.GradNorm)
	if err := dist.Agree(t.comm, t.findOverflow(about, batches, max(s.Rows, 1))); err != nil {
		return err
	}
	return fmt.Errorf("%s; every tensor is finite, only the norm overflows (a lower lr may help)", about)
}

// findOverflow returns an error that names the first tensor of this rank that overflowed, or nil if all are finite.
func (t *Trainer) findOverflow(about string, batches []*Batch, total int) error {
	node, in, err := t.firstOverflowOf(batches, total)
	switch {
	case err != nil:
		return fmt.Errorf("%s; looking for the first tensor that overflowed: %w", about, err)
	case node != "":
		return fmt.Errorf("%s; the first tensor that overflowed is %s, in a batch of the rows %s (a lower lr may help)",
			about, node, in.originsText())
	}
	return nil
}

// firstOverflowOf names the first node whose value is not finite when a step is computed again, and its micro-batch. It is "" if
// there is none.
func (t *Trainer) firstOverflowOf(batches []*Batch, total int) (node string, in *Batch, err error) {
	for i, b := range batches {
		if t.chunks != nil {
			// Ranks that gather compute every micro-batch together, whatever one of them has found.
			_, failed := t.chunks.forward(t, t.gathering(), b, i, true, total)
			if failed := dist.Agree(t.gathering(), failed); failed != nil {
				return "", nil, failed
			}
		}
		if node == "" && err == nil {
			node, err = t.firstOverflow(b, i, total)
			in = b
		}
		if (node != "" || err != nil) && !t.cfg.Gather {
			break
		}
	}
	return node, in, err
}

// originsText lists the sources of the batch's rows.
func (b *Batch) originsText() string {
	if b.Origin == nil {
		return "(unknown)"
	}
	all := b.Origin()
	if more := len(all) - maxRowsInError; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxRowsInError], ", "), more)
	}
	return strings.Join(all, ", ")
}

// firstOverflow names the first node whose value is not finite when a micro-batch is computed. It is "" if there is none. With
// chunks, forward has just computed the micro-batch.
func (t *Trainer) firstOverflow(b *Batch, microBatch, total int) (string, error) {
	if t.chunks == nil {
		return t.probe(artifact.TrainingFile, func(to *runtime.Binding) error {
			return errors.Join(t.bindDropout(to, t.set.Dropout, microBatch, b.Dims, true), b.Bind(to), t.bindScale(to))
		})
	}
	c := t.chunks
	var node string
	pass := func(file string, bind func(to *runtime.Binding, dims []int64, at int64) error) error {
		return c.eachChunk(b, func(k int, chunk *Batch, dims []int64, at int64) (err error) {
			if node != "" {
				return nil
			}
			node, err = t.probe(file, func(to *runtime.Binding) error {
				return errors.Join(c.bind(t, to, chunk, passNumber(microBatch, k), true), bind(to, dims, at))
			})
			return err
		})
	}
	if err := pass(artifact.EncodeFile, func(*runtime.Binding, []int64, int64) error { return nil }); err != nil || node != "" {
		return node, err
	}
	node, err := c.lossOverflow(t, b, total)
	if err != nil || node != "" {
		return node, err
	}
	err = pass(artifact.BackwardFile, func(to *runtime.Binding, dims []int64, at int64) error {
		return to.View(artifact.EncodedValue+artifact.GradientSuffix, c.encodedGradients, at, dims...)
	})
	return node, err
}

// lossOverflow names the first node of the loss whose value is not finite, or "".
func (c *chunks) lossOverflow(t *Trainer, b *Batch, total int) (node string, err error) {
	if c.comparison == nil {
		return t.probe(artifact.LossFile, func(to *runtime.Binding) error {
			all := append([]int64{c.encodedRows(b)}, c.graphs.Width...)
			return errors.Join(b.Bind(to), t.bindScale(to), to.View(artifact.EncodedValue, c.encoded, 0, all...))
		})
	}
	err = c.comparison.eachBlock(t, total, func(x queryBlock) (err error) {
		if node == "" {
			node, err = t.probe(artifact.CompareFile, func(to *runtime.Binding) error { return c.comparison.bind(t, to, x) })
		}
		return err
	})
	return node, err
}

// probe runs the probe of a graph (see artifact.Probe) on the inputs that bind binds. It returns the first node whose
// value is not finite, or "".
func (t *Trainer) probe(file string, bind func(*runtime.Binding) error) (node string, err error) {
	p, err := t.set.Probe(file)
	if err != nil {
		return "", err
	}
	s, err := runtime.NewSession(p.Model, t.trainingOptions())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b, err := s.NewBinding()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(b.Close(), err) }()
	if file != artifact.LossFile && file != artifact.CompareFile {
		if err := t.bindParameters(b); err != nil {
			return "", err
		}
	}
	flags := make([]float32, len(p.Nodes))
	if err := errors.Join(bind(b), b.OutputFloats(artifact.FiniteOutput, flags, int64(len(flags)))); err != nil {
		return "", err
	}
	if err := b.Run(); err != nil {
		return "", err
	}
	for i, x := range flags {
		if math.IsNaN(float64(x)) {
			return p.Nodes[i], nil
		}
	}
	return "", nil
}
