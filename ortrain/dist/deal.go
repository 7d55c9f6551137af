package dist

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Dealer deals pieces of work to the ranks of a job. It measures the speed of each rank and gives a slower one less work. A
// piece's result must not depend on the rank that computes it; then the results do not depend on the number of ranks.
//
//	d := dist.NewDealer(comm)
//	results, err := d.Deal(ctx, costs, func(piece int) ([]byte, error) { … })
type Dealer struct {
	c Comm
	// work and seconds of each rank so far; a call counts half as much as the next one.
	work, seconds []float64
}

// NewDealer returns a Dealer for the ranks of a job. Like a Comm, it is used by one goroutine at a time.
func NewDealer(c Comm) *Dealer {
	return &Dealer{c, make([]float64, c.Size()), make([]float64, c.Size())}
}

// Comm connects the ranks that share the work.
func (d *Dealer) Comm() Comm { return d.c }

// Shares says whether the work is dealt to several ranks. A nil Dealer is one of one rank.
func (d *Dealer) Shares() bool { return d != nil && d.c.Size() > 1 }

// Agree is the function Agree for the ranks that share the work, where an ended context is a kind of error.
func (d *Dealer) Agree(err error) error {
	if !d.Shares() {
		return err
	}
	return Agree(d.c, err, context.Canceled)
}

// Deal computes len(costs) pieces of work, each on one rank, and returns all results, in order, on every rank. It is collective:
// all ranks call it with the same costs, which are positive and in any unit. The first rank on which do fails, or whose context
// has ended, ends all of them with the same error, a *RankError unless there is only one rank.
func (d *Dealer) Deal(ctx context.Context, costs []float64, do func(piece int) ([]byte, error)) ([][]byte, error) {
	if len(costs) == 0 {
		return nil, nil
	}
	owners := d.owners(costs)
	mine, failed := d.compute(ctx, owners, do)
	if failed != nil && d.c.Size() == 1 {
		return nil, failed
	}
	all, err := d.c.AllGather(mine)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	for rank, b := range all {
		switch {
		case len(b) < headerLen:
			return nil, fmt.Errorf("rank %d: %d bytes are no results", rank, len(b))
		case b[0] == worked:
		case rank == d.c.Rank():
			return nil, &RankError{Rank: rank, Err: failed}
		case b[0] == canceled:
			return nil, &RankError{Rank: rank, Err: context.Canceled}
		default:
			return nil, &RankError{Rank: rank, Err: errors.New(string(b[headerLen:]))}
		}
	}
	d.measure(owners, costs, all)
	return results(owners, all)
}

// A rank's bytes begin with what became of its work, and the seconds that it took. The results follow, each after its length,
// or the text of an error.
const (
	headerLen = 1 + 8

	worked = iota - 1
	canceled
	failure
)

// compute does this rank's pieces. It returns what the rank tells the others, and its error.
func (d *Dealer) compute(ctx context.Context, owners []int, do func(piece int) ([]byte, error)) ([]byte, error) {
	out, begun := make([]byte, headerLen), time.Now()
	err := ctx.Err() // also of a rank without a piece
	for piece, owner := range owners {
		if owner != d.c.Rank() || err != nil {
			continue
		}
		var b []byte
		if b, err = do(piece); err == nil {
			out = append(binary.LittleEndian.AppendUint64(out, uint64(len(b))), b...)
			err = ctx.Err()
		}
	}
	if err != nil {
		out[0] = failure
		if errors.Is(err, context.Canceled) {
			out[0] = canceled
		}
		return append(out[:headerLen], err.Error()...), err
	}
	binary.LittleEndian.PutUint64(out[1:], math.Float64bits(time.Since(begun).Seconds()))
	return out, nil
}

// results takes the ranks' bytes apart.
func results(owners []int, all [][]byte) ([][]byte, error) {
	out := make([][]byte, len(owners))
	for rank := range all {
		all[rank] = all[rank][headerLen:]
	}
	for piece, rank := range owners {
		b := all[rank]
		if len(b) < 8 || uint64(len(b)-8) < binary.LittleEndian.Uint64(b) {
			return nil, fmt.Errorf("rank %d: the result of piece %d is cut short", rank, piece)
		}
		n := binary.LittleEndian.Uint64(b)
		out[piece], all[rank] = b[8:8+n:8+n], b[8+n:]
	}
	return out, nil
}

// leastSpeed is the least speed, as a share of the fastest rank's, that a rank is given work for. A rank that was slow for a
// while must get some, or it would never be measured again.
const leastSpeed = 1. / 8

// owners gives the rank of each piece: the one that would have finished it first at its speed so far.
func (d *Dealer) owners(costs []float64) []int {
	speed, fastest := make([]float64, d.c.Size()), 0.
	for r := range speed {
		if d.work[r] > 0 && d.seconds[r] > 0 {
			speed[r] = d.work[r] / d.seconds[r]
			fastest = max(fastest, speed[r])
		}
	}
	for r := range speed {
		if speed[r] == 0 { // not known yet
			speed[r] = max(fastest, 1)
		}
		speed[r] = max(speed[r], leastSpeed*fastest)
	}
	load, out := make([]float64, len(speed)), make([]int, len(costs))
	for piece, cost := range costs {
		best := 0
		for r := range load {
			if (load[r]+cost)/speed[r] < (load[best]+cost)/speed[best] {
				best = r
			}
		}
		out[piece] = best
		load[best] += cost
	}
	return out
}

// measure notes how long the ranks took.
func (d *Dealer) measure(owners []int, costs []float64, all [][]byte) {
	for r := range d.work {
		d.work[r], d.seconds[r] = d.work[r]/2, d.seconds[r]/2
	}
	for piece, rank := range owners {
		d.work[rank] += costs[piece]
	}
	for rank, b := range all {
		d.seconds[rank] += math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
	}
}
