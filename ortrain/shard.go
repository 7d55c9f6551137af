package ortrain

import (
	"errors"
	"fmt"
	"io"

	"rag-retrieval-go/internal/safetensors"
	"rag-retrieval-go/ortrain/dist"
	"rag-retrieval-go/ortrain/runtime"
)

// A sharded optimizer (ZeRO stage 1, Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054): the flat blocks are cut into
// one part for each rank. A rank keeps only its own part of the two moments. Its gradients are summed over the ranks by a
// reduce-scatter instead of an all-reduce, it updates its own part of the parameters, and an all-gather gives every rank all
// parameters. These two operations send as many bytes as the all-reduce.
//
//	elements    |0 ... rank 0 ... |... rank 1 ... |... rank 2 ... Trained|
//	parameters  whole on every rank; frozen ones follow after Trained
//	gradients   whole on every rank; after the reduce-scatter, only the own part holds the sums
//	moments     the own part only

// shards are the ranks' parts of the flat blocks.
type shards struct {
	counts     []int // elements of each rank's part, in the order of the ranks
	start, end int64 // this rank's part
}

// shardAlignment is the alignment of a part in elements: 256 bytes, as that of tensors.
const shardAlignment = 64

// newShards cuts total elements into parts that are equal up to the alignment. The last ranks' parts may be empty.
func newShards(total int64, rank, ranks int) *shards {
	s := &shards{}
	per := (total + int64(ranks) - 1) / int64(ranks)
	per = (per + shardAlignment - 1) / shardAlignment * shardAlignment
	for r := range int64(ranks) {
		start, end := min(r*per, total), min((r+1)*per, total)
		s.counts = append(s.counts, int(end-start))
		if r == int64(rank) {
			s.start, s.end = start, end
		}
	}
	return s
}

// ends returns where each rank's part ends.
func (s *shards) ends() (out []int64) {
	at := int64(0)
	for _, n := range s.counts {
		at += int64(n)
		out = append(out, at)
	}
	return out
}

// overlap returns how many of the elements from start to end are in each rank's part.
func (s *shards) overlap(start, end int64) []int {
	out := make([]int, len(s.counts))
	at := int64(0)
	for r, n := range s.counts {
		out[r] = int(max(0, min(end, at+int64(n))-max(start, at)))
		at += int64(n)
	}
	return out
}

// sharded says whether the moments are.
func (t *Trainer) sharded() bool { return t.cfg.ShardOptimizer && t.comm.Size() > 1 }

// ownPart returns the elements whose moments this rank has, and whose parameters it updates: all, unless the optimizer is
// sharded.
func (t *Trainer) ownPart() (start, end int64) {
	if !t.sharded() {
		return 0, t.set.Layout.Trained
	}
	return t.shards.start, t.shards.end
}

// MomentBytes returns the memory of the optimizer's two moments on this rank, and what they take if they are not sharded.
func (t *Trainer) MomentBytes() (own, whole int64) {
	start, end := t.ownPart()
	return 8 * (end - start), 8 * t.set.Layout.Trained
}

// gatherParameters gives every rank the parameters that the others have updated.
func (t *Trainer) gatherParameters() error {
	if !t.sharded() {
		return nil
	}
	values := t.parameters.Host()
	if values != nil {
		return t.comm.AllGatherParts(values[:t.set.Layout.Trained], t.shards.counts)
	}
	values = t.hostBuffer()
	start, end := t.ownPart()
	// A rank that cannot read its part takes part nevertheless: the others wait for it.
	failed := t.parameters.Download(int(start), values[start:end])
	if err := t.comm.AllGatherParts(values, t.shards.counts); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return t.parameters.Upload(0, values)
}

// momentWindow is how many elements of a moment are gathered at once for a checkpoint.
const momentWindow = 4 << 20

// momentGather gathers sharded moments piece by piece, in the order of a checkpoint's file. No rank ever holds more than a
// window of another rank's moments.
type momentGather struct {
	t       *Trainer
	windows []window // still to gather
	buffer  []float32
	err     error // of this rank; it still takes part in the operations that the others wait for
	agreed  bool
}

// window is a range of elements of a moment, in the places that they have in the flat blocks.
type window struct {
	moment     *runtime.Block
	start, end int64
}

// newMomentGather plans the gathering of both moments, at most size elements at once. There is nothing to gather if they are not
// sharded.
func newMomentGather(t *Trainer, size int64) *momentGather {
	m := &momentGather{t: t}
	if !t.sharded() {
		return m
	}
	l := t.set.Layout
	for _, block := range t.moments {
		for i, p := range l.TrainedParams() {
			for at, end := l.Offsets[i], l.Offsets[i]+p.Size(); at < end; at += size {
				m.windows = append(m.windows, window{block, at, min(at+size, end)})
			}
		}
	}
	return m
}

// next returns the elements of the next window. They are valid until the next call.
func (m *momentGather) next() ([]float32, error) {
	if len(m.windows) == 0 {
		return nil, errors.Join(m.err, errors.New("no window of a moment is left to gather"))
	}
	w := m.windows[0]
	m.windows = m.windows[1:]
	n := int(w.end - w.start)
	if len(m.buffer) < n {
		m.buffer = make([]float32, n)
	}
	values := m.buffer[:n]
	first, last := m.t.ownPart()
	if start, end := max(w.start, first), min(w.end, last); start < end {
		if err := w.moment.Download(int(start-first), values[start-w.start:end-w.start]); err != nil {
			m.err = err
		}
	}
	counts := m.t.shards.overlap(w.start, w.end)
	if counts[0] == n { // rank 0 has it
		return values, m.err
	}
	if err := m.t.comm.AllGatherParts(values, counts); err != nil {
		m.err, m.windows = err, nil
	}
	return values, m.err
}

// tensors returns the tensors of one moment for writing. They must be written in this order, and both moments in theirs.
func (m *momentGather) tensors(prefix string) (tensors []safetensors.Tensor) {
	for _, p := range m.t.set.Layout.TrainedParams() {
		tensors = append(tensors, safetensors.Tensor{
			Name: prefix + p.Name, DType: "F32", Shape: p.Dims,
			Stream: func(w io.Writer) error {
				for left := p.Size(); left > 0; {
					values, err := m.next()
					if err != nil {
						return err
					}
					if _, err := w.Write(safetensors.FromFloat32("", values).Data); err != nil {
						return err
					}
					left -= int64(len(values))
				}
				return nil
			},
		})
	}
	return tensors
}

// finish takes part in gathering the windows that are left, and returns err, or whatever failed on any rank. Every rank calls
// it: rank 0 after it has written the moments or failed to, the others instead. Later calls return err.
func (m *momentGather) finish(err error) error {
	if m.agreed {
		return err
	}
	for len(m.windows) > 0 {
		_, _ = m.next() // the error is in m.err
	}
	m.agreed, m.buffer = true, nil
	if err == nil && m.err != nil {
		err = fmt.Errorf("gathering the moments: %w", m.err)
	}
	return dist.Agree(m.t.comm, err)
}
