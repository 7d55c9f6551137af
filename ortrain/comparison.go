package ortrain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rag-retrieval-go/ortrain/artifact"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/onnx"
	"rag-retrieval-go/ortrain/runtime"
)

// scoresPerBlock is the most scores, of an encoded row of a query with one of a passage, that are in memory at a time, unless one
// query has more. The loss and its gradient have a few arrays of this size, of 64 MiB each.
const scoresPerBlock = 16 << 20

// comparison computes a loss over a matrix of scores, see artifact.Comparison, and its gradient with respect to the encoded rows.
// It takes a block of queries at a time, so that the matrix is never in memory as a whole.
//
// If ranks gather their passages, each computes the loss of its own queries with the passages of all. The gradients of a passage
// come from the queries of all ranks; they are summed and go back to the rank that encoded the passage. So the gradient is that
// of one rank with the whole batch.
type comparison struct {
	width   int64 // of an encoded row
	shape   []int64
	session *runtime.Session
	binding *runtime.Binding
	// queries holds the encoded rows of this rank's queries, passages those of all passages, padded to the longest.
	queries, queryGradients, passages, passageGradients *runtime.Block
	own                                                 *ownRows // of the last run, for bind
	lengths                                             []int    // the number of rows of each passage of the last run
	longest                                             int      // the number of rows that each of these is padded to
	inputs                                              *Batch   // of the last block, whose arrays the next one reuses
}

func openComparison(t *Trainer) (*comparison, error) {
	c := &comparison{width: onnx.Elements(t.set.Chunks.Width), shape: t.set.Chunks.Width, inputs: NewBatch()}
	var err error
	if c.session, err = runtime.NewSession(t.set.Chunks.Compare, t.exactOptions()); err == nil {
		c.binding, err = c.session.NewBinding()
	}
	if err == nil {
		err = c.binding.Output(artifact.LossOutput, &t.loss.Tensor)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// run returns the sum of the losses of the batch's queries, divided by total, and sets gradients, of the encoded rows, to the
// gradient of the sum over the queries of all ranks in comm. encodeErr is the error of computing encoded: it ends all ranks.
func (c *comparison) run(t *Trainer, comm dist.Comm, b *Batch, encoded, gradients *runtime.Block, total int, encodeErr error) (float64, error) {
	own, err := &ownRows{x: b.Comparison, width: c.width}, encodeErr
	if err == nil {
		err = own.read(encoded)
	}
	if err := dist.Agree(comm, err); err != nil {
		return 0, err
	}
	all, err := gatherPassages(comm, own)
	if err != nil {
		return 0, err
	}
	c.own, c.lengths, c.longest = own, all.lengths, slices.Max(append([]int{1}, all.lengths...))
	loss, err := c.blocks(t, all, total)
	if err := dist.Agree(comm, err); err != nil {
		return 0, err
	}
	if err := comm.ReduceScatter(all.values, all.counts); err != nil {
		return 0, err
	}
	return loss, own.writeGradients(gradients, c.queryGradients, all.of(comm.Rank()))
}

// ownRows are the encoded rows of this rank's batch, on the host.
type ownRows struct {
	x                 *Comparison
	width             int64
	queries, passages []float32 // the rows of all items, end to end
}

func (o *ownRows) read(encoded *runtime.Block) error {
	values, err := blockValues(encoded)
	if err != nil {
		return err
	}
	o.queries, o.passages = o.pick(values, o.x.Queries.Rows), o.pick(values, o.x.Passages.Rows)
	return nil
}

func (o *ownRows) pick(values []float32, rows []int64) []float32 {
	out := make([]float32, 0, int64(len(rows))*o.width)
	for _, r := range rows {
		out = append(out, values[r*o.width:(r+1)*o.width]...)
	}
	return out
}

// writeGradients sets the gradients of the encoded rows. Rows that the loss does not read have the gradient zero.
func (o *ownRows) writeGradients(to, queries *runtime.Block, passages []float32) error {
	q, err := blockValues(queries)
	if err != nil {
		return err
	}
	return fillBlock(to, func(values []float32) error {
		clear(values)
		for _, from := range []struct {
			rows   []int64
			values []float32
		}{{o.x.Queries.Rows, q}, {o.x.Passages.Rows, passages}} {
			for i, r := range from.rows {
				copy(values[r*o.width:(r+1)*o.width], from.values[int64(i)*o.width:])
			}
		}
		return nil
	})
}

// passageRows are the encoded rows of the passages of all ranks, end to end.
type passageRows struct {
	lengths []int     // the number of rows of each passage
	values  []float32 // the rows, and later their gradients
	counts  []int     // the number of values of each rank
}

// of returns the values of one rank.
func (p *passageRows) of(rank int) []float32 {
	first := 0
	for _, n := range p.counts[:rank] {
		first += n
	}
	return p.values[first : first+p.counts[rank]]
}

// gatherPassages collects the encoded passages of all ranks.
func gatherPassages(comm dist.Comm, own *ownRows) (*passageRows, error) {
	var lengths []byte
	for _, n := range own.x.Passages.Lengths {
		lengths = binary.LittleEndian.AppendUint32(lengths, uint32(n))
	}
	ranks, err := comm.AllGather(lengths)
	if err != nil {
		return nil, err
	}
	all, total := &passageRows{}, 0
	for _, b := range ranks {
		count := 0
		for ; len(b) > 0; b = b[4:] {
			n := int(binary.LittleEndian.Uint32(b))
			all.lengths, count = append(all.lengths, n), count+n*int(own.width)
		}
		all.counts, total = append(all.counts, count), total+count
	}
	all.values = make([]float32, total)
	copy(all.of(comm.Rank()), own.passages)
	return all, comm.AllGatherParts(all.values, all.counts)
}

// blocks computes loss and gradients block by block. It leaves the gradients of the passages, from the batch's queries, in
// all.values, and those of the queries in queryGradients.
func (c *comparison) blocks(t *Trainer, all *passageRows, total int) (loss float64, err error) {
	if err := c.reserve(t, all); err != nil {
		return 0, err
	}
	err = c.eachBlock(t, total, func(x queryBlock) error {
		if err := errors.Join(c.bind(t, c.binding, x), c.bindOutputs(x)); err != nil {
			return err
		}
		err := t.runGraph(c.binding)
		loss += float64(t.loss.Value()) * x.share
		return err
	})
	if err != nil {
		return 0, err
	}
	values, err := blockValues(c.passageGradients)
	if err != nil {
		return 0, err
	}
	c.unpad(values, all)
	return loss, nil
}

// queryBlock is a block of the batch's queries.
type queryBlock struct {
	from, to    int     // its queries
	first, rows int64   // the first of their encoded rows, and the number of these
	share       float64 // of the loss
}

// eachBlock divides the queries of the last run into blocks and calls f for each.
func (c *comparison) eachBlock(t *Trainer, total int, f func(x queryBlock) error) error {
	lengths, limit := c.own.x.Queries.Lengths, t.cfg.ScoresPerBlock
	if limit == 0 {
		limit = scoresPerBlock
	}
	perRow := len(c.lengths) * c.longest // scores of an encoded row of a query
	first := int64(0)
	for from := 0; from < len(lengths); {
		to, rows := from+1, lengths[from]
		for to < len(lengths) && (rows+lengths[to])*perRow <= limit {
			rows += lengths[to]
			to++
		}
		if err := f(queryBlock{from, to, first, int64(rows), float64(to-from) / float64(total)}); err != nil {
			return fmt.Errorf("the loss of queries %d to %d of %d, with %d passages: %w", from+1, to, len(lengths), len(c.lengths), err)
		}
		from, first = to, first+int64(rows)
	}
	return nil
}

// dims returns the shapes of a block's queries and of the passages.
func (c *comparison) dims(x queryBlock) (queries, passages []int64) {
	return append([]int64{x.rows}, c.shape...), append([]int64{int64(len(c.lengths)), int64(c.longest)}, c.shape...)
}

// bind binds the inputs of a block.
func (c *comparison) bind(t *Trainer, to *runtime.Binding, x queryBlock) error {
	inputs := c.inputs
	c.own.x.Bind(inputs, x.from, x.to, c.lengths)
	inputs.Float(artifact.LossWeight, []float32{float32(x.share * t.lossScaler.Factor())}, 1)
	queries, passages := c.dims(x)
	return errors.Join(inputs.Bind(to), to.View(artifact.QueriesValue, c.queries, x.first*c.width, queries...),
		to.View(artifact.PassagesValue, c.passages, 0, passages...), to.View(artifact.PassagesSum, c.passageGradients, 0, passages...))
}

// bindOutputs binds the gradients of a block. Those of the passages are added up in place.
func (c *comparison) bindOutputs(x queryBlock) error {
	queries, passages := c.dims(x)
	return errors.Join(
		c.binding.OutputView(artifact.QueriesValue+artifact.GradientSuffix, c.queryGradients, x.first*c.width, queries...),
		c.binding.OutputView(artifact.PassagesValue+artifact.GradientSuffix, c.passageGradients, 0, passages...))
}

// reserve fills the blocks of queries and passages, and clears those of their gradients.
func (c *comparison) reserve(t *Trainer, all *passageRows) error {
	padded, queries := int64(len(c.lengths)*c.longest)*c.width, int64(len(c.own.queries))
	err := errors.Join(reserve(t, &c.queries, queries), reserve(t, &c.queryGradients, queries),
		reserve(t, &c.passages, padded), reserve(t, &c.passageGradients, padded))
	if err != nil {
		return err
	}
	return errors.Join(
		c.queries.Upload(0, c.own.queries),
		fillBlock(c.passages, func(values []float32) error { c.pad(values, all); return nil }),
		fillBlock(c.passageGradients, func(values []float32) error { clear(values); return nil }))
}

// pad copies the passages' rows to places of the longest passage's size.
func (c *comparison) pad(padded []float32, all *passageRows) {
	clear(padded) // padding is multiplied with queries too, and an old NaN would stay one
	c.eachPassage(all, func(place int, values []float32) { copy(padded[place:], values) })
}

// unpad is the inverse of pad.
func (c *comparison) unpad(padded []float32, all *passageRows) {
	c.eachPassage(all, func(place int, values []float32) { copy(values, padded[place:]) })
}

// eachPassage calls f for each passage with its place in the padded array and its values.
func (c *comparison) eachPassage(all *passageRows, f func(place int, values []float32)) {
	first, width, longest := 0, int(c.width), c.longest
	for i, n := range all.lengths {
		f(i*longest*width, all.values[first:first+n*width])
		first += n * width
	}
}

// Close frees all native memory.
func (c *comparison) Close() error {
	if c == nil {
		return nil
	}
	return errors.Join(c.binding.Close(), c.session.Close(), c.queries.Close(), c.queryGradients.Close(), c.passages.Close(),
		c.passageGradients.Close())
}
